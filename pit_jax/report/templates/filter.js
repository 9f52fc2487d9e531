// Shows the samples that fit the form; without scripts the form stays hidden and all are shown.
(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const all = form.closest("details");
  const samples = [...document.querySelectorAll(".sample")];
  const texts = samples.map((sample) =>
    [...sample.querySelectorAll(".prompt, .text")]
      .map((part) => part.textContent.toLowerCase())
      .join("\n"),
  );
  const fields = ["outcome", "round", "words"];

  function show() {
    const [outcome, round, typed] = fields.map((name) => form.elements[name].value);
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    samples.forEach((sample, index) => {
      const fits =
        (!outcome || sample.dataset.outcome === outcome) &&
        (!round || sample.dataset.rounds.split(" ").includes(round)) &&
        words.every((word) => texts[index].includes(word));
      sample.hidden = !fits;
      count += fits;
    });
    form.querySelector("output").textContent = `${count} of ${samples.length} shown`;
  }

  // The address keeps what was chosen, so that it can be sent to somebody.
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    fields.forEach((name) => (form.elements[name].value = given.get(name) || ""));
    all.open ||= fields.some((name) => given.has(name));
    show();
  }

  function write() {
    const chosen = fields.filter((name) => form.elements[name].value);
    const pairs = chosen.map((name) => [name, form.elements[name].value]);
    history.replaceState(null, "", "#" + new URLSearchParams(pairs));
    show();
  }

  form.hidden = false;
  form.addEventListener("input", write);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", read);
  read();
})();
