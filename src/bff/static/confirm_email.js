"use strict";

// The token stands in the fragment, which browsers send to nobody. It is taken out of the address at once.
const token = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);

const button = document.getElementById("confirm");
const say = (text) => { document.getElementById("message").textContent = text; };
const TEXTS = {
  202: "Thank you. Mails about your account go to this address now.",
  404: "This link is not known.",
  409: "This link was used already, or is no longer good.",
};

async function confirm() {
  button.disabled = true;
  say("");
  try {
    const { status } = await fetch("/signals/confirm-email", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept": "application/json" },
      body: JSON.stringify({ token }),
    });
    say(TEXTS[status] || "That did not work. Try again in a moment.");
    button.hidden = status === 202;
    button.disabled = status in TEXTS;
  } catch {
    say("That did not work. Try again in a moment.");
    button.disabled = false;
  }
}

if (token) {
  button.disabled = false;
  button.addEventListener("click", confirm);
} else {
  say("This address is not complete: open the link in the mail.");
}
