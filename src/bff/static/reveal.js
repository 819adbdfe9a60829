"use strict";

// The token stands in the fragment, which browsers send to nobody. It is taken out of the address at once.
const token = decodeURIComponent(location.hash.slice(1)).replace(/^token=/, "");
history.replaceState(null, "", location.pathname);

const show = document.getElementById("show");
const say = (text) => { document.getElementById("message").textContent = text; };

function present(revealed) {
  document.getElementById("username").textContent = revealed.username;
  document.getElementById("password").textContent = revealed.password;
  document.getElementById("result").hidden = false;
  show.hidden = true;
  say("Keep it now: this page cannot show it again.");
}

function refuse(status, code) {
  const gone = "This link was used already, or is no longer good. If that was not you, tell whoever runs this service.";
  const late = "This link has expired: nobody saw the password, and it was destroyed. Ask for a new one.";
  const texts = { 404: "This link is not known.", 410: code === "expired" ? late : gone };
  say(texts[status] || "That did not work. Try again in a moment.");
  show.disabled = status === 404 || status === 410;
}

async function reveal() {
  show.disabled = true;
  say("");
  try {
    const answer = await fetch("/reveals", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept": "application/json" },
      body: JSON.stringify({ token }),
    });
    const said = await answer.json();
    if (answer.ok) present(said);
    else refuse(answer.status, said.code);
  } catch {
    refuse(0);
  }
}

if (token) {
  show.disabled = false;
  show.addEventListener("click", reveal);
} else {
  say("This address is not complete: open the link in the mail.");
}
