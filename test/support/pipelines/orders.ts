import { ordersPipeline } from "../event-pipeline";

export default ordersPipeline({ results: "/results", shards: 2 });
