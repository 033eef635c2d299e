import type { KeptPiece, KeptRead, ReadCodec } from "../engine/reads";
import { timesOfRead } from "../engine/reads";
import type { RowTimes } from "../engine/rows";
import { ByteReader } from "./byte-reader";
import { readPane, readWindow, writePane, writeWindow } from "./element-coder";
import { stateOf } from "./state-coder";
import { readValue, withTextWriter, writeValue } from "./value-coder";

/**
 * The state of one shard of a stage that reads without end: a row for each restriction.
 *
 *   row   = version (1 byte), watermark (double, ms), resume at (double, ms), timestamp (double, ms), window, pane,
 *           truncated (1 byte), restriction, piece (undefined where there is none)
 */
export const READ_STATE_VERSION = 6;

export function readCodec(stage: string): ReadCodec<string> {
  return {
    encode: ({ watermarkMs, resumeAtMs, timestampMs, window, pane, isTruncated, restriction, piece }) =>
      withTextWriter((out) => {
        out.byte(READ_STATE_VERSION);
        out.double(watermarkMs);
        out.double(resumeAtMs);
        out.double(timestampMs);
        writeWindow(out, window);
        writePane(out, pane);
        out.byte(Number(isTruncated));
        writeValue(out, restriction, "restriction");
        writeValue(out, piece, "piece");
      }),
    decode(id, row): KeptRead {
      const reader = new ByteReader(Buffer.from(row, "latin1"), stateOf(stage));
      const times = readTimes(reader);
      const place = { timestampMs: reader.double(), window: readWindow(reader), pane: readPane(reader) };
      const isTruncated = reader.byte() === 1;
      const restriction = readValue(reader);
      const piece = readValue(reader) as KeptPiece | undefined;
      reader.end();
      return { id, ...times, ...place, isTruncated, restriction, piece };
    },
  };
}

/** What a stored row waits for and holds back. Throws CorruptEncodingError. */
export function timesOfReadRow(row: Uint8Array, stage: string): RowTimes {
  return timesOfRead(readTimes(new ByteReader(row, stateOf(stage))));
}

function readTimes(reader: ByteReader): Pick<KeptRead, "watermarkMs" | "resumeAtMs"> {
  const version = reader.byte();
  if (version !== READ_STATE_VERSION)
    reader.fail(
      `version ${version} is unknown, reads without an end have version ${READ_STATE_VERSION}; run the code that wrote it`,
    );
  const watermarkMs = reader.double();
  const resumeAtMs = reader.double();
  if (Number.isNaN(watermarkMs) || Number.isNaN(resumeAtMs)) reader.fail("a time is not a number");
  return { watermarkMs, resumeAtMs };
}
