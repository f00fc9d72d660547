// Signs a body read from standard input, as a sender under Node would: {"secret", "id", "body"} → the three headers.
import { Webhook } from "standardwebhooks";

let text = "";
for await (const part of process.stdin) text += part;
const { secret, id, body } = JSON.parse(text);
const at = new Date();
console.log(
  JSON.stringify({
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, at, body),
  }),
);
