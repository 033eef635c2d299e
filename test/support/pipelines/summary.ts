import { summaryPipeline } from "../sample-pipelines";

/** Changes below /app in windows of one second, as znodes below /results and as text. */
export default summaryPipeline({ source: "/app", results: "/results" });
