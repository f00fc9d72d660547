// What a page can do without being loaded again. Every page works without this file.
"use strict";

const one = (selector, within = document) => within.querySelector(selector);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- live parts: a stream says that there is news, and the part is fetched anew -------------------------------------

// puts a part's new content in, unless it says the same or somebody is about to press something in it
function show(part, text) {
  const fresh = document.createElement("div");
  fresh.innerHTML = text;
  const plain = (within) => within.innerHTML.replaceAll(' open=""', "").trim();
  if (plain(fresh) === plain(part) || part.contains(document.activeElement)) return;
  every("details", part).forEach((old, at) => {
    const same = every("details", fresh)[at];
    if (same) same.open = old.open;
  });
  part.replaceChildren(...fresh.childNodes);
}

function follow(part) {
  let waiting = false;
  const renew = async () => {
    if (waiting) return;
    waiting = true;
    try {
      const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
      if (answer.status === 401) return location.reload();
      if (answer.ok) show(part, await answer.text());
    } catch {
      // the stream says when there is news again
    }
    waiting = false;
  };
  const stream = new EventSource(part.dataset.events);
  stream.addEventListener("news", renew);
  stream.addEventListener("gone", () => {
    stream.close();
    location.reload();
  });
  if (part.dataset.every) setInterval(renew, Number(part.dataset.every) * 1000);
  addEventListener("pagehide", () => stream.close());
}
every("[data-events]").forEach(follow);

// --- a rule's preview, as the rule is being chosen ------------------------------------------------------------------

function preview(form) {
  const shown = document.getElementById(form.dataset.preview);
  let soon;
  let turn = 0;
  const renew = async () => {
    const mine = ++turn;
    try {
      const answer = await fetch(form.dataset.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (answer.ok && mine === turn) shown.innerHTML = await answer.text();
    } catch {
      // the next change tries again
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(renew, 250);
  });
  every("[data-look]", form).forEach((button) => (button.hidden = true));
}
every("form[data-preview]").forEach(preview);

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

// choosing something inside a choice chooses that choice
every("[data-chooses]").forEach((part) => {
  part.addEventListener("input", () => {
    const choice = document.getElementById(part.dataset.chooses);
    if (!choice.checked) choice.checked = true;
  });
});

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

one("[data-language]")?.addEventListener("change", (event) => event.target.form.requestSubmit());

one("[autofocus], [aria-invalid=true]")?.focus();
