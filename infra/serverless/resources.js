/** What the pipelines of a deployment add to its template. Each function changes the template that it is given. */
const { createHash } = require("node:crypto");
const { logicalName } = require("./logical-name.js");

/** The bundle function may write to the S3 URLs that pipelines write to, and to nothing more. */
function grantText({ Resources }, pipelines) {
  const urls = pipelines.flatMap(({ outputs }) => outputs).filter((output) => output.startsWith("s3://"));
  if (urls.length === 0 || !Resources.BundleRole) return;
  Resources.BundleRole.Properties.Policies[0].PolicyDocument.Statement.push({
    Sid: "WriteTextElsewhere",
    Effect: "Allow",
    Action: "s3:PutObject",
    Resource: [...new Set(urls)].sort().map((url) => ({
      "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, `:s3:::${url.slice("s3://".length)}*`]],
    })),
  });
}

/** The bundle function may read and list what pipelines name as their input in S3, up to the first wildcard. */
function grantInputs({ Resources }, pipelines) {
  const urls = pipelines.flatMap(({ inputs }) => inputs).filter((input) => input.startsWith("s3://"));
  if (urls.length === 0 || !Resources.BundleRole) return;
  const arn = (name) => ({ "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, `:s3:::${name}`]] });
  const prefixes = new Map();
  for (const url of [...new Set(urls)].sort()) {
    const [, bucket, key = ""] = /^s3:\/\/([^/]+)(?:\/([^*?]*))?/.exec(url);
    prefixes.set(bucket, [...(prefixes.get(bucket) ?? []), `${key}*`]);
  }
  const { Statement } = Resources.BundleRole.Properties.Policies[0].PolicyDocument;
  Statement.push({
    Sid: "ReadInputs",
    Effect: "Allow",
    Action: "s3:GetObject",
    Resource: [...prefixes].flatMap(([bucket, keys]) => keys.map((key) => arn(`${bucket}/${key}`))),
  });
  [...prefixes].forEach(([bucket, keys], index) => {
    Statement.push({
      Sid: `ListInputs${index}`,
      Effect: "Allow",
      Action: "s3:ListBucket",
      Resource: arn(bucket),
      Condition: { StringLike: { "s3:prefix": keys } },
    });
  });
}

/**
 * A schedule of EventBridge Scheduler for each pipeline that has one.
 * @returns {string[]} the pipelines whose schedule has ended
 */
function addSchedules({ Resources }, pipelines) {
  const scheduled = pipelines.filter(({ schedule }) => schedule);
  for (const { name, schedule } of scheduled) {
    const { expression, timeZone, start, end, isOver } = schedule;
    if (isOver) continue;
    Resources[`ScheduleOf${logicalName(name)}`] = {
      Type: "AWS::Scheduler::Schedule",
      Properties: {
        Description: `Runs of the pipeline ${name}`,
        ScheduleExpression: expression,
        ScheduleExpressionTimezone: timeZone,
        ...(start === null ? {} : { StartDate: start }),
        ...(end === null ? {} : { EndDate: end }),
        FlexibleTimeWindow: { Mode: "OFF" },
        Target: {
          Arn: { "Fn::GetAtt": ["BatchLambdaFunction", "Arn"] },
          RoleArn: { "Fn::GetAtt": ["ScheduleRole", "Arn"] },
          Input: JSON.stringify({ pipeline: name, tick: "<aws.scheduler.scheduled-time>" }),
          // What comes later than this, the batch function has found by itself.
          RetryPolicy: { MaximumEventAgeInSeconds: 60, MaximumRetryAttempts: 3 },
        },
      },
    };
  }
  return scheduled.filter(({ schedule }) => schedule.isOver).map(({ name }) => name);
}

/** Minutes in a row in which the lag has to be above the threshold. */
const LAG_MINUTES = 5;

/** An alarm on the lag of each pipeline that watches znodes; none where the threshold, in seconds, is 0. */
function addLagAlarms({ Resources }, pipelines, { service, stage, lagSeconds }) {
  if (lagSeconds === 0) return;
  for (const { name } of pipelines.filter(({ watches }) => watches)) {
    Resources[`LagAlarmOf${logicalName(name)}`] = {
      Type: "AWS::CloudWatch::Alarm",
      Properties: {
        AlarmName: `${service}-${stage}-lag-${name}`,
        AlarmDescription: `What the pipeline ${name} watches has been ahead of it by more than ${lagSeconds} s for ${LAG_MINUTES} minutes.`,
        Namespace: "Beamkeeper",
        MetricName: "Lag",
        Dimensions: [
          { Name: "FunctionName", Value: { Ref: "RelayLambdaFunction" } },
          { Name: "Pipeline", Value: name },
        ],
        // In milliseconds, once a minute from each relay; one that stands by has none.
        Statistic: "Maximum",
        Period: 60,
        EvaluationPeriods: LAG_MINUTES,
        ComparisonOperator: "GreaterThanThreshold",
        Threshold: lagSeconds * 1_000,
        // No relay at all is another alarm's.
        TreatMissingData: "notBreaching",
        AlarmActions: [{ Ref: "AlarmTopic" }],
        OKActions: [{ Ref: "AlarmTopic" }],
      },
    };
  }
}

/** What a published version does not depend on. */
const NOT_OF_THE_VERSION = ["Code", "ReservedConcurrentExecutions", "Tags"];

/**
 * Tells relay, batch and driver function which version of the bundle function belongs to them. A version is published for each
 * other code or configuration; its name in the template tells them apart, and so has to depend on what the plug-ins and
 * `resources` have added as well.
 */
function nameBundleVersion({ Resources, Outputs }) {
  const [old, version] =
    Object.entries(Resources).find(
      ([, { Type, Properties }]) =>
        Type === "AWS::Lambda::Version" && Properties.FunctionName.Ref === "BundleLambdaFunction",
    ) ?? [];
  if (!version) return;
  const properties = Object.entries(Resources.BundleLambdaFunction.Properties)
    .filter(([name]) => !NOT_OF_THE_VERSION.includes(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256").update(JSON.stringify([version.Properties.CodeSha256, properties]));
  const name = `BundleLambdaVersion${hash.digest("hex").slice(0, 32)}`;
  delete Resources[old];
  Resources[name] = version;
  for (const output of Object.values(Outputs)) if (output.Value?.Ref === old) output.Value = { Ref: name };
  for (const caller of ["RelayLambdaFunction", "BatchLambdaFunction", "DriverLambdaFunction"]) {
    const { Variables } = Resources[caller]?.Properties.Environment ?? {};
    if (Variables) Variables.BEAMKEEPER_BUNDLE_VERSION = { "Fn::GetAtt": [name, "Version"] };
  }
}

module.exports = { grantInputs, addLagAlarms, addSchedules, grantText, nameBundleVersion };
