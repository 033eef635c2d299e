/** What `beamkeeper check` asks of the services whose events pipelines read. It reads, and changes nothing. */
import type { EventServices } from "../aws/event-services";
import type { PlannedEventSource } from "../checkpoint/event-source";
import type { PipelinePlan } from "../runner/deployment";
import { type Finding, failure, ok, warning } from "./finding";

/** The timeout of the events function in serverless.yml, in seconds: Lambda refuses a queue that hides messages for less. */
export const EVENTS_TIMEOUT_SECONDS = 30;
/** As AWS advises: attempts that are throttled take their time as well. */
const ADVISED_VISIBILITY = 6;
/** How long a pipeline should be able to refuse a queue's messages before these go to its dead-letter queue. */
const SHORTEST_STAY_SECONDS = 3_600;
const DAY_SECONDS = 86_400;

/**
 * Of each source of events whether what it reads is there and fits how it is read; what could not be asked is a warning.
 *
 * @param stage what `{stage}` in names stands for.
 */
export async function checkEventSources(
  services: EventServices,
  { name, eventSources }: PipelinePlan,
  stage: string,
): Promise<Finding[]> {
  const found = eventSources.map(async (planned) => {
    const about = `${name} reads ${planned.source.name}`;
    const origin = (planned.settings.origin ?? planned.settings.bus)?.replaceAll("{stage}", stage);
    try {
      return await checkSource(services, about, planned, origin);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      const what = origin === undefined ? planned.source.from : `${planned.source.from} ${origin}`;
      return [
        warning(
          about,
          `${what} could not be asked: ${text}`,
          "check AWS_REGION and the credentials, and whether they may describe it",
        ),
      ];
    }
  });
  return (await Promise.all(found)).flat();
}

async function checkSource(
  services: EventServices,
  about: string,
  planned: PlannedEventSource,
  origin = "",
): Promise<Finding[]> {
  const { from } = planned.source;
  if (from === "sqs") return checkQueue(services, about, planned, origin);
  if (from === "kinesis") return checkStream(services, about, planned, origin);
  if (from === "s3") return [await checkBucket(services, about, origin)];
  if (from === "eventbridge" && origin !== "") return [await checkBus(services, about, origin)];
  return [ok(about, from === "direct" ? "who may invoke the events function may send" : "the default bus")];
}

async function checkQueue(
  services: EventServices,
  about: string,
  planned: PlannedEventSource,
  origin: string,
): Promise<Finding[]> {
  const queue = await services.queue(origin);
  if (!queue) return [absent(about, `queue ${origin}`)];
  const { visibilitySeconds, retentionSeconds, maxReceives } = queue;
  const { batchWindowSeconds = 0, rememberMs } = planned.settings;
  const needed = EVENTS_TIMEOUT_SECONDS + batchWindowSeconds;
  const advised = ADVISED_VISIBILITY * EVENTS_TIMEOUT_SECONDS + batchWindowSeconds;
  const findings: Finding[] = [];
  if (visibilitySeconds < needed)
    findings.push(
      failure(
        about,
        `queue ${origin} hides messages for ${visibilitySeconds} s, and taking them may last ${needed} s (the function's timeout and batchWindowSeconds)`,
        `set its visibility timeout to ${advised} s, or make batchWindowSeconds smaller`,
      ),
    );
  else if (visibilitySeconds < advised)
    findings.push(
      warning(
        about,
        `queue ${origin} hides messages for ${visibilitySeconds} s; AWS advises ${advised} s (six timeouts and batchWindowSeconds)`,
        `set its visibility timeout to ${advised} s`,
      ),
    );
  if (rememberMs < retentionSeconds * 1000)
    findings.push(
      warning(
        about,
        `queue ${origin} may deliver a message again for ${days(retentionSeconds)}, and its id is remembered for ${days(rememberMs / 1000)}: after that it counts twice`,
        "set rememberSeconds to the queue's retention, unless messages leave it sooner (maxReceiveCount)",
      ),
    );
  if (maxReceives !== undefined && maxReceives * visibilitySeconds < SHORTEST_STAY_SECONDS)
    findings.push(
      warning(
        about,
        `queue ${origin} gives a message up after ${maxReceives} receives, some ${Math.round((maxReceives * visibilitySeconds) / 60)} minutes while a pipeline is paused or behind`,
        `let maxReceiveCount times the visibility timeout be ${SHORTEST_STAY_SECONDS / 3600} hours or more, or expect to move messages back from the dead-letter queue`,
      ),
    );
  if (maxReceives === undefined)
    findings.push(
      warning(
        about,
        `queue ${origin} has no dead-letter queue: what is refused is gone after ${days(retentionSeconds)}`,
        "give it a redrive policy, where a pipeline may be paused or drained for so long",
      ),
    );
  return findings.length > 0
    ? findings
    : [ok(about, `queue ${origin} hides messages for ${visibilitySeconds} s`)];
}

async function checkStream(
  services: EventServices,
  about: string,
  { source, settings }: PlannedEventSource,
  origin: string,
): Promise<Finding[]> {
  const stream = await services.stream(origin);
  if (!stream) return [absent(about, `stream ${origin}`)];
  const { batchWindowSeconds = 0, delayMs } = settings;
  if (source.timestampAttribute !== undefined && delayMs < batchWindowSeconds * 1000)
    return [
      warning(
        about,
        `batchWindowSeconds (${batchWindowSeconds}) is more than delaySeconds (${delayMs / 1000}): records that wait for their batch may be late`,
        "make delaySeconds larger than batchWindowSeconds",
      ),
    ];
  return [ok(about, `stream ${origin} keeps records for ${days(stream.retentionSeconds)}`)];
}

async function checkBucket(services: EventServices, about: string, origin: string): Promise<Finding> {
  const bucket = await services.bucket(origin);
  if (!bucket) return absent(about, `bucket ${origin}`);
  if (bucket.tellsEventBridge) return ok(about, `bucket ${origin} sends its events to EventBridge`);
  return warning(
    about,
    `bucket ${origin} does not send its events to EventBridge: nothing will come`,
    'turn on "Amazon EventBridge" in its properties, or let it notify the events function itself',
  );
}

async function checkBus(services: EventServices, about: string, origin: string): Promise<Finding> {
  return (await services.hasBus(origin)) ? ok(about, `bus ${origin}`) : absent(about, `bus ${origin}`);
}

function absent(about: string, what: string): Finding {
  const remedy = "create it before the deployment, or correct the name, --stage, AWS_REGION or the account";
  return failure(about, `there is no ${what}`, remedy);
}

function days(seconds: number): string {
  const value = seconds / DAY_SECONDS;
  return value >= 1 ? `${Number(value.toFixed(1))} days` : `${Number((seconds / 3600).toFixed(2))} hours`;
}
