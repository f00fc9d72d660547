// Shows the messages that arrive by Web Push, and opens the page that each is about. It stores and fetches nothing.
"use strict";

addEventListener("push", (event) => {
  let message = {};
  try {
    message = event.data.json();
  } catch {
    // a browser must show something for each push
  }
  const options = { body: message.body, tag: message.tag, icon: "/static/icon-192.png", data: { path: message.path } };
  event.waitUntil(registration.showNotification(message.title ?? "7stamp", options));
});

addEventListener("notificationclick", (event) => {
  event.notification.close();
  const path = event.notification.data?.path ?? "/";
  // only pages of this console, whatever a message says
  const url = new URL(path, location.origin);
  const open = async () => {
    if (url.origin !== location.origin) return;
    const pages = await clients.matchAll({ type: "window" });
    for (const page of pages) {
      try {
        await page.focus();
        return await page.navigate(url.href);
      } catch {
        // a page of another worker cannot be led: the next one, or a new one
      }
    }
    return clients.openWindow(url.href);
  };
  event.waitUntil(open());
});
