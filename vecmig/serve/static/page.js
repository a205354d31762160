// Follows the page: when the server says that something changed, the parts that differ are put in place of those shown.
"use strict";

const PARTS = "main > section:not(.collection), main > nav, .head, .card, header.top";

function key(part) {
  return part.id || part.className;
}

// One after the other, so that no older page comes after a newer one.
let last = Promise.resolve();
function follow() {
  last = last.then(refresh).catch(() => {});
}

// By how much the clock here is behind the server's, in milliseconds.
let behind = 0;

async function refresh() {
  const answer = await fetch(location.pathname, { cache: "no-store" });
  if (!answer.ok) return;
  behind = Date.parse(answer.headers.get("date")) - Date.now() || 0;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [shown, wanted] = [document, fresh].map((root) => [...root.querySelectorAll(PARTS)]);
  if (shown.map(key).join() !== wanted.map(key).join()) {
    // something came or went
    keep(fresh, () => document.querySelector("main").replaceWith(fresh.querySelector("main")));
    document.querySelector("header.top").replaceWith(fresh.querySelector("header.top"));
  } else {
    shown.forEach((part, at) => {
      if (part.innerHTML !== wanted[at].innerHTML) keep(wanted[at], () => part.replaceWith(wanted[at]));
    });
  }
  document.title = fresh.title;
  tell();
}

// What a reader has opened stays open.
function keep(root, replace) {
  for (const open of document.querySelectorAll("details[open][id]")) {
    const same = root.querySelector(`[id="${CSS.escape(open.id)}"]`);
    if (same) same.open = true;
  }
  replace();
}

function tell() {
  for (const age of document.querySelectorAll(".age")) {
    const seconds = Math.max(0, Math.round((Date.now() + behind - Date.parse(age.dataset.at)) / 1000));
    age.textContent = seconds < 120 ? `${seconds} s ago:` : `${Math.round(seconds / 60)} min ago:`;
  }
}

tell();
setInterval(tell, 1000);
const source = new EventSource("changes");
source.addEventListener("changed", follow);
source.onopen = () => {
  document.body.classList.remove("lost");
  // what happened before the stream was open
  follow();
};
source.onerror = () => document.body.classList.add("lost");
