import type { Decoder } from "../decode";
import { integerField, jsonObject, namesBelow, optional, textField } from "./fields";

/** A service instance, as Curator's JsonInstanceSerializer writes it; Spring Cloud ZooKeeper uses it, too. */
export interface CuratorServiceInstance<Payload = unknown> {
  readonly name: string;
  readonly id: string;
  readonly address: string;
  readonly port: number | undefined;
  readonly sslPort: number | undefined;
  /** Milliseconds since 1970 on the instance's clock. */
  readonly registeredMs: number;
  /** `DYNAMIC` (ephemeral), `STATIC`, `PERMANENT`, `DYNAMIC_SEQUENTIAL`. */
  readonly serviceType: string;
  readonly payload: Payload | null;
}

/** The instances in `<base>/<service>/<id>`, and null for the znodes above, which hold nothing or no JSON. */
export function curatorDiscovery<Payload = unknown>(
  base: string,
): Decoder<CuratorServiceInstance<Payload> | null> {
  return {
    format: "a service instance of Curator's",
    decode(data, path) {
      if (data.length === 0 || namesBelow(path, base)?.length !== 2) return null;
      const fields = jsonObject(data);
      return {
        name: textField(fields, "name"),
        id: textField(fields, "id"),
        address: textField(fields, "address"),
        port: optional(fields, "port", integerField),
        sslPort: optional(fields, "sslPort", integerField),
        registeredMs: integerField(fields, "registrationTimeUTC"),
        serviceType: textField(fields, "serviceType"),
        payload: (fields.payload ?? null) as Payload | null,
      };
    },
  };
}
