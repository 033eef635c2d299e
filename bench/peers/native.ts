/** The native addon `zookeeper` as a contestant: installed beside the project, under the second argument. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { serve } from "./driver";

type Callback = (code: number, error: string, ...results: never[]) => void;

interface Native {
  init(options: object): void;
  once(event: "connect", listener: () => void): void;
  a_get(path: string, watch: boolean, callback: Callback): void;
  aw_get(path: string, watcher: () => void, callback: Callback): void;
  a_exists(path: string, watch: boolean, callback: Callback): void;
  a_set(path: string, data: Buffer, version: number, callback: Callback): void;
  a_create(path: string, data: Buffer, flags: number, callback: Callback): void;
  a_get_children(
    path: string,
    watch: boolean,
    callback: (code: number, error: string, names: string[]) => void,
  ): void;
}

const SESSION_TIMEOUT_MS = 30_000;
const ANY_VERSION = -1;
const NO_DEBUG = 0;

void serve(async (connectString) => {
  const load = createRequire(join(process.argv[3]!, "package.json"));
  const Client = load("zookeeper").default ?? load("zookeeper");
  const client: Native = new Client();
  const connected = new Promise<void>((done) => client.once("connect", done));
  client.init({
    connect: connectString,
    timeout: SESSION_TIMEOUT_MS,
    debug_level: NO_DEBUG,
    host_order_deterministic: false,
    data_as_buffer: true,
  });
  await connected;
  const settle =
    (done: (error?: unknown) => void): Callback =>
    (code, error) =>
      done(code === 0 ? undefined : new Error(error));
  return {
    getData: (path, done) => client.a_get(path, false, settle(done)),
    exists: (path, done) => client.a_exists(path, false, settle(done)),
    setData: (path, data, done) => client.a_set(path, data, ANY_VERSION, settle(done)),
    create: (path, data, done) => client.a_create(path, data, 0, settle(done)),
    children: (path, done) =>
      client.a_get_children(path, false, (code, error, names) =>
        done(code === 0 ? undefined : new Error(error), names),
      ),
    watch: (path, fired, armed) => client.aw_get(path, fired, settle(armed)),
  };
});
