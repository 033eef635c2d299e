/**
 * What sources of events add to a deployment's template.
 *
 * | Source | Resources |
 * |---|---|
 * | sqs | a mapping from the queue to the events function |
 * | kinesis | the same from the stream; for all of them a queue with what was given up, and an alarm on it |
 * | eventbridge, s3 | a rule, a queue between it and the function, and a mapping from that |
 * | direct | nothing: who may invoke the function, may send |
 *
 * The queue keeps what the function refuses for the time being; Lambda itself would deliver it three times only.
 */
const { logicalName } = require("./logical-name.js");

/**
 * Invocations at once for one queue. Where they wait for room in an inbox, nothing more is received, and only what they
 * have comes nearer to the dead-letter queue. With more, most would lose the race for the same ids.
 */
const QUEUE_CONCURRENCY = 5;
/** How long the queue between a rule and the function keeps an event, in seconds: 4 days. */
const RETENTION_SECONDS = 345_600;
/** How long it is known which records of a stream were given up, in seconds: 14 days, the most that SQS has. */
const GIVEN_UP_SECONDS = 1_209_600;
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
  if (streams.size > 0) Object.assign(Resources, givenUp(deployment));
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
  return mapping(arn, {
    BatchSize: batchSize,
    MaximumBatchingWindowInSeconds: batchWindowSeconds,
    ScalingConfig: { MaximumConcurrency: QUEUE_CONCURRENCY },
  });
}

/** In order, as the highest sequence number of a shard stands for all before it. */
function streamMapping(arn, { batchSize = 100, batchWindowSeconds = 0 }) {
  return mapping(arn, {
    BatchSize: batchSize,
    MaximumBatchingWindowInSeconds: batchWindowSeconds,
    StartingPosition: "TRIM_HORIZON",
    ParallelizationFactor: 1,
    BisectBatchOnFunctionError: true,
    // Tried again until the stream forgets the records: a pipeline may be paused for long.
    DestinationConfig: { OnFailure: { Destination: GIVEN_UP_ARN } },
  });
}

const GIVEN_UP_ARN = { "Fn::GetAtt": ["StreamFailureQueue", "Arn"] };

/** Where Lambda tells of records of streams that it has given up (shard and sequence numbers), and who hears of it. */
function givenUp({ service, stage }) {
  return {
    StreamFailureQueue: {
      Type: "AWS::SQS::Queue",
      Properties: {
        QueueName: `${service}-${stage}-stream-failures`,
        MessageRetentionPeriod: GIVEN_UP_SECONDS,
        SqsManagedSseEnabled: true,
      },
    },
    StreamFailuresAlarm: {
      Type: "AWS::CloudWatch::Alarm",
      Properties: {
        AlarmName: `${service}-${stage}-stream-failures`,
        AlarmDescription:
          "Records of a stream were given up before they could be taken; the queue says which, by shard and sequence number.",
        Namespace: "AWS/SQS",
        MetricName: "ApproximateNumberOfMessagesVisible",
        Dimensions: [{ Name: "QueueName", Value: { "Fn::GetAtt": ["StreamFailureQueue", "QueueName"] } }],
        Statistic: "Maximum",
        Period: 300,
        EvaluationPeriods: 1,
        ComparisonOperator: "GreaterThanOrEqualToThreshold",
        Threshold: 1,
        TreatMissingData: "notBreaching",
        AlarmActions: [{ Ref: "AlarmTopic" }],
        OKActions: [{ Ref: "AlarmTopic" }],
      },
    },
  };
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
          statement("TellOfGivenUp", "sqs:SendMessage", [{ arn: GIVEN_UP_ARN }]),
        ]
      : []),
  ];
}

module.exports = { addEventSources };
