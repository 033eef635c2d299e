/** Our client as a contestant. */
import { connect } from "../../lib/zookeeper";
import { type Done, serve } from "./driver";

const settle = (promise: Promise<unknown>, done: Done): void => void promise.then(() => done(), done);

void serve(async (connectString) => {
  const client = await connect({ connectString });
  return {
    getData: (path, done) => settle(client.getData(path), done),
    exists: (path, done) => settle(client.exists(path), done),
    setData: (path, data, done) => settle(client.setData(path, data), done),
    create: (path, data, done) => settle(client.create(path, data), done),
    setAll: (paths, data, done) =>
      settle(client.multi(paths.map((path) => ({ type: "setData", path, data }) as const)), done),
    createAll: (paths, data, done) =>
      settle(client.multi(paths.map((path) => ({ type: "create", path, data }) as const)), done),
    children: (path, done) =>
      void client.getChildren(path).then(({ children }) => done(undefined, children), done),
    watch: (path, fired, armed) => settle(client.getData(path, { watch: fired }), armed),
  };
});
