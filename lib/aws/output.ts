import { type BlobStore, DirectoryBlobs } from "../checkpoint/blobs";
import { DirectoryFiles, type FileStore } from "../checkpoint/files";
import { awsS3, type S3Options } from "./s3";
import { S3Blobs } from "./s3-blobs";
import { S3Files } from "./s3-files";

/** Where text goes: `s3://bucket/prefix`, or a folder. Throws ObjectNameError. */
export function openOutput(output: string, options: S3Options): FileStore {
  return isUrl(output) ? new S3Files(output, awsS3(options)) : new DirectoryFiles(output);
}

/** Where large records go: `s3://bucket/prefix`, or a folder. Throws ObjectNameError. */
export function openBlobs(location: string, options: S3Options): BlobStore {
  return isUrl(location) ? new S3Blobs(location, awsS3(options)) : new DirectoryBlobs(location);
}

function isUrl(location: string): boolean {
  return /^s3:\/\//i.test(location);
}
