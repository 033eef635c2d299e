/**
 * Serverless plug-in of the project: what serverless.yml cannot say.
 *
 * - Packaging compiles every pipeline, so that a mistake is found before anything is deployed, and grants the bundle
 *   function the S3 URLs that they write to, and nothing more.
 * - Removing empties the deployment's own bucket first, since S3 deletes empty buckets only.
 * - At an emulator (AWS_ENDPOINT_URL is this machine), templates are not validated by URL, which emulators cannot do.
 */
const { CloudFormationClient, DescribeStackResourceCommand } = require("@aws-sdk/client-cloudformation");
const { DeleteObjectsCommand, ListObjectsV2Command, S3Client } = require("@aws-sdk/client-s3");
const { describePipelines } = require("./pipelines.js");

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
    };
  }

  adaptToEmulator() {
    if (!LOOPBACK.test(process.env.AWS_ENDPOINT_URL ?? "")) return;
    const deploy = this.serverless.pluginManager.plugins.find(
      (each) => each.constructor.name === "AwsDeploy",
    );
    if (deploy) deploy.validateTemplate = async () => undefined;
  }

  async addPipelines() {
    const pipelines = await describePipelines(this.serverless.serviceDir).catch((error) => {
      throw new this.serverless.classes.Error(error.message, "BEAMKEEPER_PIPELINES");
    });
    const urls = pipelines.flatMap(({ outputs }) => outputs).filter((output) => output.startsWith("s3://"));
    const { Resources } = this.serverless.service.provider.compiledCloudFormationTemplate;
    const role = Resources.BundleRole;
    if (urls.length === 0 || !role) return;
    role.Properties.Policies[0].PolicyDocument.Statement.push({
      Sid: "WriteTextElsewhere",
      Effect: "Allow",
      Action: "s3:PutObject",
      Resource: [...new Set(urls)].sort().map((url) => ({
        "Fn::Join": ["", ["arn:", { Ref: "AWS::Partition" }, `:s3:::${url.slice("s3://".length)}*`]],
      })),
    });
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
