import { DirectoryFiles, type FileStore } from "../checkpoint/files";
import { awsS3, type S3Options } from "./s3";
import { S3Files } from "./s3-files";

/** Where text goes: `s3://bucket/prefix`, or a folder. Throws ObjectNameError. */
export function openOutput(output: string, options: S3Options): FileStore {
  return /^s3:\/\//i.test(output) ? new S3Files(output, awsS3(options)) : new DirectoryFiles(output);
}
