import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectoryFiles, OutputNameError } from "../../lib/checkpoint/files";

let folder: string;
let files: DirectoryFiles;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-files-"));
  files = new DirectoryFiles(join(folder, "output"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const visible = (): string[] =>
  (readdirSync(join(folder, "output"), { recursive: true }) as string[])
    .filter((name) => !name.startsWith("."))
    .sort();

test("a file is invisible until it is published, and then whole", async () => {
  await files.writeTemporary("t1", Buffer.from("content"));
  expect(visible()).toEqual([]);
  await files.publish("t1", "a/b/part");
  expect(readFileSync(join(folder, "output/a/b/part"), "utf8")).toBe("content");
  expect(await files.listTemporary("")).toEqual([]);
});

test("publishing may be repeated, also by two at once", async () => {
  await files.writeTemporary("t1", Buffer.from("content"));
  await Promise.all([files.publish("t1", "part"), files.publish("t1", "part")]);
  await files.publish("t1", "part");
  expect(visible()).toEqual(["part"]);
});

test("publishing what was never written is an error that names the file", async () => {
  await expect(files.publish("gone", "part")).rejects.toMatchObject({
    code: "ENOENT",
    message: expect.stringContaining("gone"),
  });
});

test("a file that is written again under its temporary name is whole again", async () => {
  await files.writeTemporary("t1", Buffer.from("a long first attempt"));
  await files.writeTemporary("t1", Buffer.from("short"));
  await files.publish("t1", "part");
  expect(readFileSync(join(folder, "output/part"), "utf8")).toBe("short");
});

test("temporary files are listed by prefix and removed; absence is fine", async () => {
  expect(await files.listTemporary("a")).toEqual([]);
  for (const name of ["a.1", "a.2", "b.1"]) await files.writeTemporary(name, Buffer.alloc(0));
  expect((await files.listTemporary("a.")).sort()).toEqual(["a.1", "a.2"]);
  await files.removeTemporary("a.1");
  await files.removeTemporary("a.1");
  expect(await files.listTemporary("a.")).toEqual(["a.2"]);
});

test("an output folder that is a file is an error that names it", async () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "output"), "a file");
  await expect(files.writeTemporary("t", Buffer.alloc(0))).rejects.toThrow(/output/);
});

test.each([
  "s3://bucket/x",
  "file:///x",
  "HTTP://x",
  "/etc/passwd",
  "../x",
  "a/../../x",
  "..",
  ".temporary/x",
])("the name %s is refused", async (name) => {
  expect(() => files.checkName(name)).toThrow(OutputNameError);
  await files.writeTemporary("t", Buffer.alloc(0));
  await expect(files.publish("t", name)).rejects.toThrow(name);
});

test.each(["x", "a/b", "a/../b", "..x", "a..b", "c:x"])("the name %s is taken", (name) => {
  expect(() => files.checkName(name)).not.toThrow();
});
