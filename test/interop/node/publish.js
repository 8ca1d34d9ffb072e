// Publishes one AccountRoleChanged in structured mode and one in binary mode, and prints what the stream said.
//
//     node publish.js nats://user:password@127.0.0.1:4222
//
// An upstream service does no more than this.
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";
import { CloudEvent, HTTP } from "cloudevents";

const tenant = "demo";

const url = new URL(process.argv[2]);
const connection = await connect({
  servers: url.host,
  user: decodeURIComponent(url.username) || undefined,
  pass: decodeURIComponent(url.password) || undefined,
});
const stream = jetstream(connection);

// roleChanged is the event; "id" is that of the service's own record, so telling it twice is telling it once.
function roleChanged(id, data) {
  return new CloudEvent({
    specversion: "1.0",
    type: "io.handover.account.role.changed.v1",
    source: "//crm.example.com/node",
    id,
    subject: data.account_id,
    time: "2026-03-01T09:00:00.123Z",
    datacontenttype: "application/json",
    data: { tenant_id: tenant, ...data },
  });
}

// publish takes what the CloudEvents SDK makes for HTTP: NATS has the same headers.
async function publish(event, { headers: attributes, body }) {
  const h = headers();
  for (const [name, value] of Object.entries(attributes)) {
    // A header carries printable ASCII; the rest, and the percent sign, is percent-encoded. The content type is never.
    const ascii = name.toLowerCase() === "content-type" ? value
      : String(value).replace(/[^\x21\x23\x24\x26-\x7e]/gu, (c) => encodeURIComponent(c));
    h.set(name, ascii);
  }
  const ack = await stream.publish(`handover.role.changed.${tenant}`, body, {
    headers: h,
    msgID: `${tenant}/${event.id}`, // unique to tenant, source and id
  });
  console.log(JSON.stringify({ id: event.id, stream: ack.stream, seq: ack.seq, duplicate: ack.duplicate }));
}

const structured = roleChanged("structured-1", {
  account_id: "a-1", role: "success_manager", new_owner_id: "u-2", reason: "api", initiated_by: "u-9",
});
const binary = roleChanged("binary 1, 100% \"café\"", {
  account_id: "Ünïcode & 中😀", role: "sales_manager", previous_owner_id: "u-1", new_owner_id: null, reason: "profile", initiated_by: "u-9",
});
await publish(structured, HTTP.structured(structured));
await publish(structured, HTTP.structured(structured));
await publish(binary, HTTP.binary(binary));
await connection.drain();
