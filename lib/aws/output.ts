import type { InputFiles } from "../beam/splittable";
import { type BlobStore, DirectoryBlobs } from "../checkpoint/blobs";
import { DirectoryFiles, type FileStore } from "../checkpoint/files";
import { LocalFiles } from "../io/local-files";
import { awsS3, type S3Options } from "./s3";
import { S3Blobs } from "./s3-blobs";
import { S3Files } from "./s3-files";
import { S3Inputs } from "./s3-inputs";

/** Where text goes: `s3://bucket/prefix`, or a folder. Throws ObjectNameError. */
export function openOutput(output: string, options: S3Options): FileStore {
  return isUrl(output) ? new S3Files(output, awsS3(options)) : new DirectoryFiles(output);
}

/** Where large records go: `s3://bucket/prefix`, or a folder. Throws ObjectNameError. */
export function openBlobs(location: string, options: S3Options): BlobStore {
  return isUrl(location) ? new S3Blobs(location, awsS3(options)) : new DirectoryBlobs(location);
}

/** What pipelines read files from: S3 where the name is an S3 URL, else this machine. */
export function openInputs(options: S3Options): InputFiles {
  const local = new LocalFiles();
  const remote = new S3Inputs(awsS3(options));
  const storeOf = (name: string): InputFiles => (isUrl(name) ? remote : local);
  return {
    list: (pattern) => storeOf(pattern).list(pattern),
    read: (file, from, to) => storeOf(file.name).read(file, from, to),
  };
}

function isUrl(location: string): boolean {
  return /^s3:\/\//i.test(location);
}
