// Sorting, stepping through time, and copying: everything that they show is on the page without them as well.
const make = (tag, properties = {}, ...children) => {
  const one = Object.assign(document.createElement(tag), properties);
  one.append(...children);
  return one;
};

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = make("button", { type: "button", textContent: heading.textContent });
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") === "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        return x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
      });
      table.tBodies[0].append(...(up ? rows : rows.reverse()));
    });
  });
}

// A slider with buttons for one step; show(k) draws step k of `count` and returns its words.
const stepper = (name, count, start, show) => {
  const slider = make("input", { type: "range", min: 0, max: count - 1, step: 1, value: start });
  slider.setAttribute("aria-label", name);
  const output = make("output");
  const update = () => {
    output.value = show(Number(slider.value));
    slider.setAttribute("aria-valuetext", output.value);
  };
  const button = (text, label, by) => {
    const one = make("button", { type: "button", textContent: text });
    one.setAttribute("aria-label", label);
    one.addEventListener("click", () => {
      slider.value = Number(slider.value) + by;
      update();
    });
    return one;
  };
  slider.addEventListener("input", update);
  update();
  const buttons = make("div", {}, button("◀", "one step back", -1), button("▶", "one step on", 1));
  return make("div", { className: "stepper" }, buttons, slider, output);
};

for (const figure of document.querySelectorAll("figure.stepped")) {
  const { ends, start, steps } = JSON.parse(figure.dataset.steps);
  const picture = figure.querySelector("svg");
  const draw = (tag, attributes) => {
    const one = document.createElementNS(picture.namespaceURI, tag);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    picture.append(one);
    return one;
  };
  const line = draw("line", { class: "cursor", y1: ends[0], y2: ends[1] });
  const spot = draw("circle", { class: "spot", r: 5 });
  picture.after(stepper("time steps", steps.length, start, (k) => {
    const [x, y, words] = steps[k];
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    spot.setAttribute("cx", x);
    spot.setAttribute("cy", y);
    return words;
  }));
}

for (const sample of document.querySelectorAll(".sample[data-steps]")) {
  const count = Number(sample.dataset.steps);
  const { times, answers } = JSON.parse(sample.dataset.answers ?? '{"times":[],"answers":[]}');
  const strips = [...sample.querySelectorAll(".strip[data-counts]")].map((one) => {
    let sum = 0;
    const sums = one.dataset.counts.split(" ").map((n) => (sum += Number(n)));
    return [one.querySelector("b").textContent, sums];
  });
  sample.querySelector(".strips").append(stepper("time step of the spikes", count, count - 1, (k) => {
    sample.style.setProperty("--at", (100 * (k + 1)) / count);
    sample.classList.add("on");
    const last = times.findLastIndex((t) => t <= k + 1);
    const answer = last < 0 ? "no answer yet" : answers[last];
    const spikes = strips.map(([name, sums]) => `${name} ${sums[k].toLocaleString("en")}`).join(", ");
    return `Step ${k + 1} of ${count}: ${answer}` + (spikes && `; spikes in the rasters so far: ${spikes}`);
  }));
}

for (const group of document.querySelectorAll(".samples")) {
  const samples = [...group.querySelectorAll(".sample")];
  if (samples.length < 2) continue;
  const buttons = samples.map((sample, number) => {
    const picture = sample.querySelector(".input img");
    const button = make("button", { type: "button" }, sample.querySelector(".name").textContent);
    if (picture) button.prepend(make("img", { src: picture.src, alt: "" }));
    button.addEventListener("click", () => choose(number));
    return button;
  });
  const choose = (chosen) => samples.forEach((sample, number) => {
    sample.hidden = number !== chosen;
    buttons[number].setAttribute("aria-pressed", number === chosen);
  });
  group.prepend(make("div", { className: "chooser" }, ...buttons));
  choose(0);
}

for (const command of document.querySelectorAll(".command")) {
  if (!navigator.clipboard) break;
  const button = make("button", { type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("pre").textContent);
    button.textContent = "Copied";
  });
  command.querySelector("p").append(button);
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
