/** Events in the forms in which AWS's services pass them to Lambda. */

interface MessageOptions {
  readonly group?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly queue?: string;
}

export function sqsMessage(
  messageId: string,
  body: string,
  { group, attributes = {}, queue = "orders-dev" }: MessageOptions = {},
) {
  return {
    messageId,
    receiptHandle: "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
    body,
    attributes: {
      ApproximateReceiveCount: "1",
      SentTimestamp: "1762900000123",
      SenderId: "AIDAIENQZJOLO23YVJ4VO",
      ApproximateFirstReceiveTimestamp: "1762900000200",
      ...(group === undefined ? {} : { MessageGroupId: group, SequenceNumber: "18849496460467696128" }),
    },
    messageAttributes: Object.fromEntries(
      Object.entries(attributes).map(([name, stringValue]) => [
        name,
        { stringValue, stringListValues: [], binaryListValues: [], dataType: "String" },
      ]),
    ),
    md5OfBody: "e4e68fb7bd0e697a0ae8f1bb342846b3",
    eventSource: "aws:sqs",
    eventSourceARN: `arn:aws:sqs:eu-central-1:123456789012:${queue}`,
    awsRegion: "eu-central-1",
  };
}

export function kinesisRecord(shard: string, sequenceNumber: string, data: Buffer) {
  return {
    kinesis: {
      kinesisSchemaVersion: "1.0",
      partitionKey: "user-1",
      sequenceNumber,
      data: data.toString("base64"),
      approximateArrivalTimestamp: 1_762_900_001.5,
    },
    eventSource: "aws:kinesis",
    eventVersion: "1.0",
    eventID: `${shard}:${sequenceNumber}`,
    eventName: "aws:kinesis:record",
    invokeIdentityArn: "arn:aws:iam::123456789012:role/lambda-role",
    awsRegion: "eu-central-1",
    eventSourceARN: "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
  };
}

interface ObjectOptions {
  readonly key: string;
  readonly versionId?: string;
  readonly sequencer?: string;
}

export function notification(eventName: string, { key, versionId, sequencer }: ObjectOptions) {
  return {
    eventVersion: "2.1",
    eventSource: "aws:s3",
    awsRegion: "eu-central-1",
    eventTime: "2025-11-11T10:00:00.000Z",
    eventName,
    userIdentity: { principalId: "AWS:AIDAINPONIXQXHT3IKHL2" },
    requestParameters: { sourceIPAddress: "205.255.255.255" },
    s3: {
      s3SchemaVersion: "1.0",
      configurationId: "828aa6fc-f7b5-4305-8584-487c791949c1",
      bucket: { name: "uploads", arn: "arn:aws:s3:::uploads" },
      object: { key, size: 17, eTag: "d41d8cd98f00b204e9800998ecf8427e", versionId, sequencer },
    },
  };
}

export function objectCreated({ key, versionId, sequencer }: ObjectOptions) {
  return {
    version: "0",
    bucket: { name: "uploads" },
    object: { key, size: 17, etag: "d41d8cd98f00b204e9800998ecf8427e", "version-id": versionId, sequencer },
    "request-id": "N4N7GDK58NMKJ12R",
    requester: "123456789012",
    reason: "PutObject",
  };
}

export function bridged({ source, type, detail }: { source: string; type: string; detail: unknown }) {
  return {
    version: "0",
    id: "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": type,
    source,
    account: "123456789012",
    time: "2025-11-11T10:00:00Z",
    region: "eu-central-1",
    resources: ["arn:a", "arn:b"],
    detail,
  };
}

/** As the queue between a rule and the function has it. */
export function passedOn(messageId: string, pipeline: string, source: string, event: unknown) {
  return {
    Records: [sqsMessage(messageId, JSON.stringify({ pipeline, source, event }), { queue: "events" })],
  };
}
