/**
 * Writes a small ONNX model: score = sigmoid((latency - mean) / spread - 3), which is above a half where a latency is
 * more than three spreads above the mean. `node make-model.mjs MEAN SPREAD FILE`. No package is needed: a model is a
 * protobuf message (onnx.proto, IR version 8, operator set 17).
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FLOAT = 1;

/** A protobuf field: numbers as varints, texts, bytes and messages with their length. */
function field(number, value) {
  if (typeof value === "number") return Buffer.from([number << 3, ...varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...varint(bytes.length)]), bytes]);
}

function varint(value) {
  const bytes = [];
  for (let left = value; ; left = Math.floor(left / 128)) {
    if (left < 128) return [...bytes, left];
    bytes.push((left % 128) | 128);
  }
}

const message = (...fields) => Buffer.concat(fields);

/** NodeProto: inputs, outputs, the operator's type. */
function node(type, inputs, output) {
  return message(...inputs.map((name) => field(1, name)), field(2, output), field(4, type));
}

/** TensorProto of one row: dims, data_type, float_data (packed), name. */
function tensor(name, values) {
  const data = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) data.writeFloatLE(value, index * 4);
  return message(field(1, 1), field(1, values.length), field(2, FLOAT), field(8, name), field(9, data));
}

/** ValueInfoProto of a matrix of any number of rows. */
function matrix(name, columns) {
  const shape = message(field(1, field(2, "batch")), field(1, field(1, columns)));
  return message(field(1, name), field(2, field(1, message(field(1, FLOAT), field(2, shape)))));
}

export function latencyModel(mean, spread) {
  const graph = message(
    field(1, node("Sub", ["latency", "mean"], "difference")),
    field(1, node("Div", ["difference", "spread"], "deviation")),
    field(1, node("Sub", ["deviation", "threshold"], "excess")),
    field(1, node("Sigmoid", ["excess"], "score")),
    field(2, "latency-anomaly"),
    field(5, tensor("mean", [mean])),
    field(5, tensor("spread", [spread])),
    field(5, tensor("threshold", [3])),
    field(11, matrix("latency", 1)),
    field(12, matrix("score", 1)),
  );
  return message(
    field(1, 8),
    field(2, "beamkeeper"),
    field(7, graph),
    field(8, message(field(1, ""), field(2, 17))),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mean, spread, file] = process.argv;
  writeFileSync(file, latencyModel(Number(mean), Number(spread)));
}
