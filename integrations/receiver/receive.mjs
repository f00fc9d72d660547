// Receives events of 7stamp connectors: proves each by its signature, then prints what it says.
//
//   EVENTS_SECRET=whsec_… PORT=3000 node receive.mjs
//
// An event may come more than once: `webhook-id` is the same each time. Answer with 2xx once it is stored.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const secret = process.env.EVENTS_SECRET;
if (!secret) {
  console.error("Set EVENTS_SECRET to the secret that the subscription showed when it was made.");
  process.exit(1);
}
const webhook = new Webhook(secret);

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  try {
    const event = webhook.verify(Buffer.concat(parts).toString("utf8"), request.headers);
    console.log(JSON.stringify({ id: event.id, type: event.type, data: event.data }));
    response.writeHead(204).end();
  } catch {
    response.writeHead(401).end();
  }
});
server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
