import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { inflateRawSync } from "node:zlib";

const CENTRAL_ENTRY = 0x02014b50;
const END_OF_DIRECTORY = 0x06054b50;
const END_BYTES = 22;

interface ZipEntry {
  readonly name: string;
  /** Before compression. */
  readonly bytes: number;
  readonly content: () => Buffer;
}

const LOCAL_BYTES = 30;

function* entriesOf(file: string): Generator<ZipEntry> {
  const bytes = readFileSync(file);
  const end = bytes.length - END_BYTES;
  if (bytes.readUInt32LE(end) !== END_OF_DIRECTORY) throw new Error(`${file} is not a zip archive`);
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left -= 1) {
    if (bytes.readUInt32LE(at) !== CENTRAL_ENTRY) throw new Error(`${file} has a broken directory`);
    const nameBytes = bytes.readUInt16LE(at + 28);
    const [isPacked, packedBytes, local] = [
      bytes.readUInt16LE(at + 10) !== 0,
      bytes.readUInt32LE(at + 20),
      bytes.readUInt32LE(at + 42),
    ];
    const content = (): Buffer => {
      const from = local + LOCAL_BYTES + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
      const packed = bytes.subarray(from, from + packedBytes);
      return isPacked ? inflateRawSync(packed) : packed;
    };
    yield {
      name: bytes.toString("utf8", at + 46, at + 46 + nameBytes),
      bytes: bytes.readUInt32LE(at + 24),
      content,
    };
    at += 46 + nameBytes + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
}

/** The names of the files in a zip archive without a comment, with their sizes in bytes before compression. */
export function zipEntries(file: string): Map<string, number> {
  return new Map([...entriesOf(file)].map(({ name, bytes }) => [name, bytes]));
}

/** Unpacks such an archive into a folder. */
export function unzip(file: string, folder: string): void {
  for (const { name, content } of entriesOf(file)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content());
  }
}
