/** node-zookeeper-client as a contestant. */
import { createClient } from "node-zookeeper-client";
import { serve } from "./driver";

const ANY_VERSION = -1;

void serve(async (connectString) => {
  const client = createClient(connectString);
  await new Promise<void>((done) => {
    client.once("connected", done);
    client.connect();
  });
  return {
    getData: (path, done) => client.getData(path, done),
    exists: (path, done) => client.exists(path, done),
    setData: (path, data, done) => client.setData(path, data, ANY_VERSION, done),
    create: (path, data, done) => client.create(path, data, done),
    setAll: (paths, data, done) => {
      const transaction = client.transaction();
      for (const path of paths) transaction.setData(path, data, ANY_VERSION);
      transaction.commit(done);
    },
    createAll: (paths, data, done) => {
      const transaction = client.transaction();
      for (const path of paths) transaction.create(path, data);
      transaction.commit(done);
    },
    children: (path, done) => client.getChildren(path, done),
    watch: (path, fired, armed) => client.getData(path, fired, armed),
  };
});
