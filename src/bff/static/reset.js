"use strict";

// The token stands in the fragment, which browsers send to nobody. It is taken out of the address at once.
const token = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);

const button = document.getElementById("send");
const say = (text) => { document.getElementById("message").textContent = text; };
const TEXTS = {
  200: "Done. Log in with the new password.",
  404: "This link is not known.",
  410: "This link was used already, or has expired. Ask for a new one.",
  422: "Both must be the same, and 8 characters or more.",
};

async function choose(event) {
  event.preventDefault();
  button.disabled = true;
  say("");
  const password = document.getElementById("password").value;
  const passwordConfirm = document.getElementById("again").value;
  try {
    const { status } = await fetch("/password-resets", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept": "application/json" },
      body: JSON.stringify({ token, password, passwordConfirm }),
    });
    say(TEXTS[status] || "That did not work. Try again in a moment.");
    document.getElementById("form").hidden = status === 200;
    button.disabled = status === 404 || status === 410;
  } catch {
    say("That did not work. Try again in a moment.");
    button.disabled = false;
  }
}

if (token) {
  button.disabled = false;
  document.getElementById("form").addEventListener("submit", choose);
} else {
  say("This address is not complete: open the link in the mail.");
}
