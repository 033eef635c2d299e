import { GetBucketNotificationConfigurationCommand, S3Client } from "@aws-sdk/client-s3";
import { SignatureV4 } from "@smithy/signature-v4";
import type { EventServices } from "./event-services";

const SERVICES = {
  sqs: { target: "AmazonSQS", version: "1.0" },
  kinesis: { target: "Kinesis_20131202", version: "1.1" },
  events: { target: "AWSEvents", version: "1.1" },
} as const;

/** How these services and S3 say that something is not there. */
const ABSENT = /NonExistentQueue|QueueDoesNotExist|ResourceNotFoundException|NoSuchBucket|NotFound/;

class ServiceCallError extends Error {
  override readonly name = "ServiceCallError";
}

/**
 * {@link EventServices} by the JSON protocol of SQS, Kinesis and EventBridge, with the region and the credentials that the
 * client of S3 finds: a client for each would be three packages for one call each. Only `event-services.ts` imports this
 * file, when it is needed.
 */
export function createEventServices(endpoint: string | undefined): EventServices {
  const s3 = new S3Client({ forcePathStyle: endpoint !== undefined });
  const call = (service: keyof typeof SERVICES, operation: string, parameters: object) =>
    callService(s3, endpoint, service, operation, parameters);
  return {
    queue: (origin) =>
      orAbsent(async () => {
        const [, , , , account, queue = origin] = origin.split(":");
        const owner = account === undefined ? {} : { QueueOwnerAWSAccountId: account };
        const { QueueUrl } = await call("sqs", "GetQueueUrl", { QueueName: queue, ...owner });
        const names = ["VisibilityTimeout", "MessageRetentionPeriod", "RedrivePolicy"];
        const { Attributes } = await call("sqs", "GetQueueAttributes", { QueueUrl, AttributeNames: names });
        const { VisibilityTimeout, MessageRetentionPeriod, RedrivePolicy } = Attributes as Record<
          string,
          string
        >;
        return {
          visibilitySeconds: Number(VisibilityTimeout),
          retentionSeconds: Number(MessageRetentionPeriod),
          maxReceives: RedrivePolicy ? Number(JSON.parse(RedrivePolicy).maxReceiveCount) : undefined,
        };
      }),
    stream: (origin) =>
      orAbsent(async () => {
        const named = origin.startsWith("arn:") ? { StreamARN: origin } : { StreamName: origin };
        const { StreamDescriptionSummary } = await call("kinesis", "DescribeStreamSummary", named);
        const { RetentionPeriodHours } = StreamDescriptionSummary as { RetentionPeriodHours: number };
        return { retentionSeconds: RetentionPeriodHours * 3600 };
      }),
    hasBus: async (origin) => {
      const found = await orAbsent(() => call("events", "DescribeEventBus", { Name: origin }));
      return found !== undefined;
    },
    bucket: (name) =>
      orAbsent(async () => {
        const answer = await s3.send(new GetBucketNotificationConfigurationCommand({ Bucket: name }));
        return { tellsEventBridge: answer.EventBridgeConfiguration !== undefined };
      }),
  };
}

async function orAbsent<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    const { name = "", message = "" } = (error ?? {}) as Partial<Error>;
    if (ABSENT.test(`${name} ${message}`)) return undefined;
    throw error;
  }
}

/** One operation, signed with Signature Version 4. Rejects with {@link ServiceCallError}, or what kept it from an answer. */
async function callService(
  { config }: S3Client,
  endpoint: string | undefined,
  service: keyof typeof SERVICES,
  operation: string,
  parameters: object,
): Promise<Record<string, unknown>> {
  const region = await config.region();
  const suffix = region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  const url = new URL(endpoint ?? `https://${service}.${region}.${suffix}`);
  const { target, version } = SERVICES[service];
  const signer = new SignatureV4({ credentials: config.credentials, region, service, sha256: config.sha256 });
  const { method, headers, body } = await signer.sign({
    ...{ method: "POST", protocol: url.protocol, hostname: url.hostname, path: "/", query: {} },
    ...(url.port === "" ? {} : { port: Number(url.port) }),
    headers: {
      host: url.host,
      "content-type": `application/x-amz-json-${version}`,
      "x-amz-target": `${target}.${operation}`,
    },
    body: JSON.stringify(parameters),
  });
  const { host: _, ...sent } = headers;
  const answer = await fetch(new URL("/", url), { method, headers: sent, body });
  const text = await answer.text();
  if (!answer.ok)
    throw new ServiceCallError(`${service} ${operation}: ${answer.status} ${text.slice(0, 500)}`);
  return JSON.parse(text) as Record<string, unknown>;
}
