/**
 * What sources of events add to a deployment's template.
 *
 * | Source | Resources |
 * |---|---|
 * | sqs, kinesis | a mapping from the queue or the stream to the events function |
 * | eventbridge, s3 | a rule, a queue between it and the function, and a mapping from that |
 * | direct | nothing: who may invoke the function, may send |
 *
 * The queue keeps what the function refuses for the time being; Lambda itself would deliver it three times only.
 */
const { logicalName } = require("./logical-name.js");

/** How long the queue between a rule and the function keeps an event, in seconds: 4 days. */
const RETENTION_SECONDS = 345_600;
/** Six times the function's timeout, as AWS recommends. */
const VISIBILITY_SECONDS = 180;

/**
 * Changes the template: adds what the sources need, or takes the functions out of it where there are none.
 *
 * @param {{ name: string, eventSources: object[] }[]} pipelines
 * @param {{ service: string, stage: string }} deployment
 */
function addEventSources({ Resources }, pipelines, deployment) {
  const { stage } = deployment;
  const sources = pipelines.flatMap(({ name, eventSources }) =>
    eventSources.map((source) => ({ ...source, pipeline: name, origin: inStage(source.origin, stage) })),
  );
  if (sources.length === 0) {
    for (const name of Object.keys(Resources)) if (/^(Events|Driver)/.test(name)) delete Resources[name];
    return;
  }
  const queues = new Map();
  const streams = new Map();
  for (const source of sources) {
    const { from, pipeline, name } = source;
    const id = logicalName(`${pipeline}/${name}`);
    // One mapping for a queue or a stream, however many pipelines read it.
    if (from === "sqs") queues.set(source.origin, { id, source, arn: arnOf("sqs", source.origin) });
    if (from === "kinesis")
      streams.set(source.origin, { id, source, arn: arnOf("kinesis", source.origin, "stream/") });
    if (from === "s3" || from === "eventbridge") {
      Object.assign(Resources, throughQueue(id, source, deployment));
      queues.set(`${pipeline}/${name}`, { id, source, arn: { "Fn::GetAtt": [`EventQueue${id}`, "Arn"] } });
    }
  }
  for (const { id, source, arn } of queues.values()) Resources[`EventsOf${id}`] = queueMapping(arn, source);
  for (const { id, source, arn } of streams.values()) Resources[`EventsOf${id}`] = streamMapping(arn, source);
  const { Statement } = Resources.EventsRole.Properties.Policies[0].PolicyDocument;
  Statement.push(...grants([...queues.values()], [...streams.values()]));
}

function inStage(text, stage) {
  return text?.replaceAll("{stage}", stage);
}

/** Of a name in the deployment's own account and region, or as it is. */
function arnOf(service, name, prefix = "") {
  if (name.startsWith("arn:")) return name;
  const place = [{ Ref: "AWS::Region" }, ":", { Ref: "AWS::AccountId" }];
  return {
    "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, `:${service}:`, ...place, `:${prefix}${name}`]],
  };
}

function mapping(arn, properties) {
  return {
    Type: "AWS::Lambda::EventSourceMapping",
    DependsOn: ["EventsRole"],
    Properties: {
      EventSourceArn: arn,
      FunctionName: { Ref: "EventsLambdaFunction" },
      FunctionResponseTypes: ["ReportBatchItemFailures"],
      ...properties,
    },
  };
}

function queueMapping(arn, { batchSize = 10, batchWindowSeconds = 0 }) {
  return mapping(arn, { BatchSize: batchSize, MaximumBatchingWindowInSeconds: batchWindowSeconds });
}

/** In order, as the highest sequence number of a shard stands for all before it. */
function streamMapping(arn, { batchSize = 100, batchWindowSeconds = 0 }) {
  return mapping(arn, {
    BatchSize: batchSize,
    MaximumBatchingWindowInSeconds: batchWindowSeconds,
    StartingPosition: "TRIM_HORIZON",
    ParallelizationFactor: 1,
    BisectBatchOnFunctionError: true,
  });
}

/** A rule for the source's events, and the queue that it puts them into, each with the source's name. */
function throughQueue(id, { from, pipeline, name, origin, prefix, pattern, bus }, { service, stage }) {
  const [queue, rule] = [`EventQueue${id}`, `EventRule${id}`];
  const arn = { "Fn::GetAtt": [queue, "Arn"] };
  const busName = inStage(bus, stage);
  return {
    [queue]: {
      Type: "AWS::SQS::Queue",
      Properties: {
        QueueName: `${service}-${stage}-events-${id.slice(-8)}`,
        MessageRetentionPeriod: RETENTION_SECONDS,
        VisibilityTimeout: VISIBILITY_SECONDS,
        SqsManagedSseEnabled: true,
      },
    },
    [`EventQueuePolicy${id}`]: {
      Type: "AWS::SQS::QueuePolicy",
      Properties: {
        Queues: [{ Ref: queue }],
        PolicyDocument: {
          Version: "2012-10-17",
          Statement: [
            {
              Effect: "Allow",
              Principal: { Service: "events.amazonaws.com" },
              Action: "sqs:SendMessage",
              Resource: arn,
              Condition: { ArnEquals: { "aws:SourceArn": { "Fn::GetAtt": [rule, "Arn"] } } },
            },
          ],
        },
      },
    },
    [rule]: {
      Type: "AWS::Events::Rule",
      Properties: {
        Description: `Events for the source ${name} of the pipeline ${pipeline}`,
        ...(busName === undefined ? {} : { EventBusName: busName }),
        EventPattern: from === "s3" ? objectsCreated(origin, prefix) : pattern,
        Targets: [
          {
            Id: "queue",
            Arn: arn,
            InputTransformer: {
              InputTemplate: `{"pipeline":"${pipeline}","source":"${name}","event":<aws.events.event.json>}`,
            },
          },
        ],
      },
    },
  };
}

function objectsCreated(bucket, prefix) {
  const object = prefix === undefined ? {} : { object: { key: [{ prefix }] } };
  return {
    source: ["aws.s3"],
    "detail-type": ["Object Created"],
    detail: { bucket: { name: [bucket] }, ...object },
  };
}

function grants(queues, streams) {
  const statement = (Sid, Action, all) => ({
    Sid,
    Effect: "Allow",
    Action,
    Resource: all.map(({ arn }) => arn),
  });
  return [
    ...(queues.length > 0
      ? [
          statement(
            "ReadQueues",
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
            queues,
          ),
        ]
      : []),
    ...(streams.length > 0
      ? [
          statement(
            "ReadStreams",
            [
              "kinesis:DescribeStream",
              "kinesis:DescribeStreamSummary",
              "kinesis:GetRecords",
              "kinesis:GetShardIterator",
              "kinesis:ListShards",
            ],
            streams,
          ),
        ]
      : []),
  ];
}

module.exports = { addEventSources };
