// What a page can do without being loaded again. Every page works without this file.
"use strict";

const one = (selector, within = document) => within.querySelector(selector);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- live parts: a stream (or the clock) says that there may be news, and the part is fetched anew ------------------

// whether somebody is about to press or copy something in there
const busy = (piece) => {
  const chosen = getSelection();
  return piece.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(piece, true));
};
const plain = (within) => within.innerHTML.replaceAll(' open=""', "").trim();

// puts what is new into a part, piece by piece: what says the same stays, and nobody who reads or presses is disturbed
function show(part, text) {
  const fresh = document.createElement("div");
  fresh.innerHTML = text;
  const pieces = every("[data-piece]", fresh);
  if (!pieces.length) return put(part, fresh);
  for (const piece of pieces) {
    const old = one(`[data-piece=${piece.dataset.piece}]`, part);
    if (!old || "still" in old.dataset || plain(old) === plain(piece)) continue;
    const button = one("[data-fresh]", part);
    if (piece.dataset.piece === "lines" && button && old.getBoundingClientRect().top < 0) {
      // the list must not move under whoever reads it
      button.hidden = false;
      button.onclick = () => {
        button.hidden = true;
        put(old, piece);
        old.scrollIntoView({ block: "center" });
      };
    } else put(old, piece);
  }
}

function put(old, fresh) {
  if (plain(fresh) === plain(old) || busy(old)) return;
  every("details", old).forEach((details, at) => {
    const { key } = details.dataset; // in a list that moves, the same place is another thing
    const same = key ? one(`details[data-key="${key}"]`, fresh) : every("details", fresh)[at];
    if (same) same.open = details.open;
  });
  old.replaceChildren(...fresh.childNodes);
}

function follow(part) {
  let waiting = false;
  let again = false;
  let timer;
  const renew = async () => {
    again = waiting; // news that comes while we ask is asked for afterwards
    if (waiting) return;
    waiting = true;
    try {
      const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
      if (answer.status === 401) return location.reload();
      if (answer.ok) show(part, await answer.text());
      if (one("[data-ended]", part)) clearInterval(timer); // there is nothing more to come
      lost(false);
    } catch {
      lost(true);
    }
    waiting = false;
    if (again) setTimeout(renew, 200);
  };
  const lost = (is) => {
    if (!part.dataset.lost) return;
    let said = one("[data-said-lost]", part.parentElement);
    if (is && !said) {
      said = document.createElement("p");
      said.className = "banner";
      said.role = "status";
      said.dataset.saidLost = "";
      said.textContent = part.dataset.lost;
      part.before(said);
    } else if (!is && said) said.remove();
  };
  if (part.dataset.events) {
    const stream = new EventSource(part.dataset.events);
    stream.addEventListener("news", renew);
    stream.addEventListener("gone", () => {
      stream.close();
      location.reload();
    });
    addEventListener("pagehide", () => stream.close());
  }
  if (part.dataset.every) timer = setInterval(renew, Number(part.dataset.every) * 1000);
  part.addEventListener("focusout", () => setTimeout(renew, 500));
}
every("[data-part]").forEach(follow);

// --- a rule's preview, as the rule is being chosen ------------------------------------------------------------------

function preview(form) {
  const shown = document.getElementById(form.dataset.preview);
  let soon;
  let turn = 0;
  // the preview in a sentence, where it is far below on a phone, and for whoever listens
  const tell = () => {
    one("[data-answer]", form).textContent = every("[data-says]", shown)
      .map((said) => said.textContent.trim().replace(/[.!]?$/, "."))
      .join(" ");
  };
  tell();
  const renew = async () => {
    const mine = ++turn;
    try {
      const answer = await fetch(form.dataset.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (answer.ok && mine === turn) {
        shown.innerHTML = await answer.text();
        tell();
      }
    } catch {
      // the next change tries again
    }
  };
  form.addEventListener("input", () => {
    delete form.dataset.untilChanged;
    clearTimeout(soon);
    soon = setTimeout(renew, 250);
  });
  every("[data-look]", form).forEach((button) => (button.hidden = true));
}
every("form[data-preview]").forEach(preview);

// --- a field that only some choices of another need ------------------------------------------------------------------

every("[data-with]").forEach((field) => {
  const choice = document.getElementById(field.dataset.with);
  if (!choice) return; // it stands on another page
  const needs = field.dataset.values.split(" ");
  const refused = one("[aria-invalid=true]", field); // what is wrong with it is to be seen
  const show = () => (field.hidden = !refused && !needs.includes(choice.value));
  choice.addEventListener("change", show);
  show();
});

// --- a long list, narrowed by typing -------------------------------------------------------------------------------

every("[data-narrows]").forEach((input) => {
  const list = document.getElementById(input.dataset.narrows);
  const empty = one("[data-empty]", list);
  input.closest("[hidden]")?.removeAttribute("hidden");
  input.addEventListener("input", (event) => {
    event.stopPropagation();
    const wanted = input.value.trim().toLowerCase();
    let found = 0;
    every("label", list).forEach((label) => {
      const fits = label.textContent.toLowerCase().includes(wanted) || one(":checked", label);
      label.hidden = !fits;
      found += fits ? 1 : 0;
    });
    empty.hidden = found > 0;
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
});

// a link to something folded opens it; some browsers do so by themselves
const unfold = () => {
  const aim = location.hash && document.getElementById(location.hash.slice(1));
  const folded = aim && aim.closest("details:not([open])");
  if (!folded) return;
  folded.open = true;
  aim.scrollIntoView();
};
unfold();
addEventListener("hashchange", unfold);

// what belongs to a choice is shown with it; choosing it opens what is folded there
every("[data-chooses]").forEach((part) => {
  document.getElementById(part.dataset.chooses).addEventListener("change", () => {
    every("details", part).forEach((details) => (details.open = true));
  });
});

// --- passkeys: a browser that has them shows the buttons; everything else works without them ------------------------

const fromText = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// the options of the server, as the browser takes them
function publicKey(options) {
  const ids = (list) => (list ?? []).map((credential) => ({ ...credential, id: fromText(credential.id) }));
  const made = { ...options, challenge: fromText(options.challenge) };
  if (options.user) made.user = { ...options.user, id: fromText(options.user.id) };
  if (options.excludeCredentials) made.excludeCredentials = ids(options.excludeCredentials);
  if (options.allowCredentials) made.allowCredentials = ids(options.allowCredentials);
  return made;
}

// a credential of the browser, as the server takes it
function credentialText(credential) {
  const answer = credential.response;
  const response = { clientDataJSON: toText(answer.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"])
    if (answer[name]) response[name] = toText(answer[name]);
  if (answer.getTransports) response.transports = answer.getTransports();
  const id = toText(credential.rawId);
  return JSON.stringify({ id, rawId: id, type: credential.type, response });
}

// posts what is in a form with the credential, and without the key or password that may be typed there
function postCredential(form, path, credential) {
  const sent = document.createElement("form");
  sent.method = "post";
  sent.action = path;
  sent.hidden = true;
  const values = [...new FormData(form)].filter(([name]) => one(`[name="${name}"]`, form)?.type !== "password");
  for (const [name, value] of [...values, ["credential", credentialText(credential)]]) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    sent.append(input);
  }
  document.body.append(sent);
  sent.submit();
}

function passkey(button) {
  if (!window.PublicKeyCredential || location.origin !== button.dataset.origin) return;
  const { form } = button;
  const said = one("[data-passkey-said]", form);
  button.hidden = false;
  const none = one("[data-passkey-none]", form);
  if (none) none.hidden = true;
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    said.hidden = true;
    try {
      const body = new URLSearchParams({ proof: one("[name=proof]", form).value });
      const answer = await fetch(button.dataset.challenge, { method: "POST", body });
      if (!answer.ok) return location.reload(); // the page says what is the matter
      const options = { publicKey: publicKey(await answer.json()) };
      const ask = button.dataset.passkey === "create" ? "create" : "get";
      postCredential(form, button.dataset.to, await navigator.credentials[ask](options));
    } catch (error) {
      said.textContent = error.name === "InvalidStateError" ? button.dataset.known : button.dataset.failed;
      said.hidden = false;
    }
    button.disabled = false;
  });
}
every("[data-passkey]").forEach(passkey);

// --- a card's QR code, scanned where the browser can; what it holds is typed and sent as by hand ---------------------

function scan(button) {
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) return;
  const { form } = button;
  const picture = one("[data-scan-picture]", form);
  const said = one("[data-scan-said]", form);
  let stream;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = undefined;
    picture.hidden = true;
  };
  const look = async (detector) => {
    if (!stream) return;
    const [code] = await detector.detect(picture).catch(() => []);
    if (!code) return setTimeout(() => look(detector), 200);
    stop();
    document.getElementById(button.dataset.scan).value = code.rawValue;
    form.requestSubmit();
  };
  button.hidden = false;
  button.addEventListener("click", async () => {
    if (stream) return stop();
    said.hidden = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      picture.srcObject = stream;
      picture.hidden = false;
      await picture.play();
      look(new BarcodeDetector({ formats: ["qr_code"] }));
    } catch {
      stop();
      said.textContent = button.dataset.failed;
      said.hidden = false;
    }
  });
  addEventListener("pagehide", stop);
}
every("[data-scan]").forEach(scan);

// --- messages to this device by Web Push: the browser asks its push service for an address, and the form takes it ----

function messages(button) {
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) return;
  const { form } = button;
  const said = one("[data-messages-said]", form);
  const say = (text) => {
    said.textContent = text;
    said.hidden = false;
  };
  one("[data-messages-none]", form).hidden = true;
  button.hidden = false;
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    say(button.dataset.waiting);
    try {
      if ((await Notification.requestPermission()) !== "granted") say(button.dataset.denied);
      else {
        await navigator.serviceWorker.register("/worker.js");
        const { pushManager } = await navigator.serviceWorker.ready;
        // an address that another installation's key asked for takes nothing from this one
        await (await pushManager.getSubscription())?.unsubscribe();
        const options = { userVisibleOnly: true, applicationServerKey: fromText(button.dataset.messages) };
        // some browsers wait for ever where their push service cannot be reached
        const late = new Promise((_, refuse) => setTimeout(refuse, 15000, new Error("late")));
        const given = (await Promise.race([pushManager.subscribe(options), late])).toJSON();
        form.endpoint.value = given.endpoint;
        form.public_key.value = given.keys.p256dh;
        form.auth.value = given.keys.auth;
        form.zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
        form.submit();
      }
    } catch {
      say(button.dataset.failed);
    }
    button.disabled = false;
  });
}
every("[data-messages]").forEach(messages);

// --- small helps ---------------------------------------------------------------------------------------------------

every("[data-copies]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      field.select();
      document.execCommand("copy");
    }
    button.textContent = button.dataset.copied;
  });
});

if (navigator.share)
  every("[data-shares]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      const url = document.getElementById(button.dataset.shares).value;
      navigator.share({ url }).catch(() => {}); // whoever changes their mind is told nothing
    });
  });

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) return event.preventDefault();
  if (form.method !== "post" || event.defaultPrevented) return;
  form.dataset.sent = "yes";
  if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
  // a download leaves the page where it is
  if (form.dataset.stays) setTimeout(() => reset(form), 2000);
});
const reset = (form) => {
  delete form.dataset.sent;
  every("[aria-busy]", form).forEach((button) => button.removeAttribute("aria-busy"));
};
addEventListener("pageshow", () => every("form[data-sent]").forEach(reset));

every("[data-language]").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
  one("button", select.form).hidden = true;
});

const first = one("[autofocus], [aria-invalid=true]");
(first?.matches("fieldset") ? one("input", first) : first)?.focus();
