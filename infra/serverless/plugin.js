/**
 * Serverless plug-in of the project: what serverless.yml cannot say.
 *
 * - Packaging compiles every pipeline, so that a mistake is found before anything is deployed, and adds what they need:
 *   see resources.js.
 * - Removing empties the deployment's own bucket first, since S3 deletes empty buckets only.
 * - `serverless offline` runs the functions as they are deployed, with folders in the place of S3.
 * - At an emulator (AWS_ENDPOINT_URL is this machine), templates are not validated by URL, which emulators cannot do.
 */
const { join } = require("node:path");
const { CloudFormationClient, DescribeStackResourceCommand } = require("@aws-sdk/client-cloudformation");
const { DeleteObjectsCommand, ListObjectsV2Command, S3Client } = require("@aws-sdk/client-s3");
const { addEventSources } = require("./events.js");
const { describePipelines } = require("./pipelines.js");
const { addLagAlarms, addSchedules, grantInputs, grantText, nameBundleVersion } = require("./resources.js");

const OUTPUT_BUCKET = "OutputBucket";
const LOOPBACK = /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\/?$/;

class BeamkeeperPlugin {
  constructor(serverless, _options, { log, progress }) {
    this.serverless = serverless;
    this.log = log;
    this.progress = progress;
    this.provider = serverless.getProvider("aws");
    this.hooks = {
      initialize: () => this.adaptToEmulator(),
      "after:aws:package:finalize:mergeCustomProviderResources": () => this.addPipelines(),
      "before:remove:remove": () => this.emptyOutputBucket(),
      "before:offline:start": () => this.adaptToOffline(),
      "before:offline:start:init": () => this.adaptToOffline(),
    };
  }

  adaptToEmulator() {
    if (!LOOPBACK.test(process.env.AWS_ENDPOINT_URL ?? "")) return;
    const deploy = this.serverless.pluginManager.plugins.find(
      (each) => each.constructor.name === "AwsDeploy",
    );
    if (deploy) deploy.validateTemplate = async () => undefined;
  }

  /** The functions call each other through serverless-offline; text and blobs go to folders, where S3 is not asked for. */
  adaptToOffline() {
    const { service, serviceDir, processedInput } = this.serverless;
    const { lambdaPort = 3002 } = { ...service.custom["serverless-offline"], ...processedInput.options };
    const access = { AWS_ACCESS_KEY_ID: "offline", AWS_SECRET_ACCESS_KEY: "offline" };
    const given = process.env.AWS_ACCESS_KEY_ID || process.env.AWS_PROFILE ? {} : access;
    // serverless-offline hands the AWS variables of this process to the functions.
    Object.assign(process.env, given, {
      AWS_REGION: this.provider.getRegion(),
      AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${lambdaPort}`,
    });
    const { bundle, relay, events, driver } = service.functions;
    const folder = join(serviceDir, ".offline");
    const output = bundle.environment.BEAMKEEPER_OUTPUT;
    bundle.environment.BEAMKEEPER_OUTPUT = output["Fn::If"]?.[1] || join(folder, "output");
    for (const { environment } of [bundle, relay, events, driver])
      environment.BEAMKEEPER_BLOB_STORE = join(folder, "blobs");
  }

  async addPipelines() {
    const pipelines = await describePipelines(this.serverless.serviceDir).catch((error) => {
      throw new this.serverless.classes.Error(error.message, "BEAMKEEPER_PIPELINES");
    });
    const template = this.serverless.service.provider.compiledCloudFormationTemplate;
    grantText(template, pipelines);
    grantInputs(template, pipelines);
    const stage = this.provider.getStage();
    const { service, custom } = this.serverless.service;
    const lagSeconds = Number(custom.lagAlarmSeconds);
    if (!Number.isInteger(lagSeconds) || lagSeconds < 0)
      throw new this.serverless.classes.Error(
        `lagAlarmSeconds must be a whole number of seconds, 0 for no alarm, and not "${custom.lagAlarmSeconds}"`,
        "BEAMKEEPER_LAG_ALARM",
      );
    addLagAlarms(template, pipelines, { service, stage, lagSeconds });
    addEventSources(template, pipelines, { service, stage });
    for (const name of addSchedules(template, pipelines))
      this.log.warning(`The schedule of "${name}" has ended: no tick comes any more, and none is deployed`);
    nameBundleVersion(template);
  }

  async emptyOutputBucket() {
    const bucket = await this.outputBucket();
    if (bucket === undefined) return;
    const progress = this.progress.create({ message: `Removing the text in the bucket ${bucket}` });
    const s3 = new S3Client(await this.provider.getAwsSdkV3Config());
    let removed = 0;
    for (let isMore = true; isMore; ) {
      // What is listed is deleted, so the next page is the first one again.
      const page = await s3.send(new ListObjectsV2Command({ Bucket: bucket }));
      const Objects = (page.Contents ?? []).map(({ Key }) => ({ Key }));
      if (Objects.length > 0) await deleteObjects(s3, bucket, Objects);
      removed += Objects.length;
      isMore = page.IsTruncated === true;
    }
    progress.remove();
    if (removed > 0) this.log.notice(`Removed ${removed} objects from the bucket ${bucket}`);
  }

  /** The name of the deployment's bucket; undefined where there is no deployment. */
  async outputBucket() {
    try {
      const cloudFormation = new CloudFormationClient(await this.provider.getAwsSdkV3Config());
      const resource = { StackName: this.provider.naming.getStackName(), LogicalResourceId: OUTPUT_BUCKET };
      const { StackResourceDetail } = await cloudFormation.send(new DescribeStackResourceCommand(resource));
      return StackResourceDetail.PhysicalResourceId;
    } catch (error) {
      if (/does not exist/.test(error.message)) return undefined;
      throw error;
    }
  }
}

async function deleteObjects(s3, bucket, objects) {
  const { Errors = [] } = await s3.send(
    new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: objects, Quiet: true } }),
  );
  if (Errors.length > 0)
    throw new Error(`${bucket}/${Errors[0].Key} cannot be deleted: ${Errors[0].Message}`);
}

module.exports = BeamkeeperPlugin;
