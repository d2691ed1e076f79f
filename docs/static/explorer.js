// The explorer: looks numbers up that refqnn computed when the book was built.
"use strict";
(() => {
  const root = document.getElementById("explorer");
  if (!root) return;
  const { grid, methods } = JSON.parse(document.getElementById("explorer-data").textContent);
  root.innerHTML = `
    <div class="controls">
      <label>method <select id="ex-method"></select></label>
      <label>bits <select id="ex-bits"></select></label>
      <label id="ex-number-label"><span></span> <select id="ex-number"></select></label>
    </div>
    <svg viewBox="0 0 640 300" role="img" aria-label="Levels (blue) and gradient (red) over the value"></svg>
    <label class="value">v <input id="ex-value" type="range" min="0" max="${grid.length - 1}" step="1"></label>
    <dl aria-live="polite">
      <div><dt>value v</dt><dd id="ex-v"></dd></div>
      <div><dt>index of level</dt><dd id="ex-code"></dd></div>
      <div><dt>level y</dt><dd id="ex-level"></dd></div>
      <div><dt>gradient dy / dv</dt><dd id="ex-slope"></dd></div>
    </dl>
    <p class="equation-of"><span id="ex-equation"></span> &ensp; <a id="ex-line"></a> &ensp; <a id="ex-page">its page</a></p>`;
  const at = (id) => document.getElementById(`ex-${id}`);
  const svg = root.querySelector("svg");
  const fill = (select, values, names = values) => {
    const kept = select.value;
    select.replaceChildren(...values.map((value, i) => new Option(names[i], value)));
    if (values.map(String).includes(kept)) select.value = kept;
  };
  const method = () => methods[at("method").value];
  const own = () => method().settings[`${at("bits").value}/${at("number").value}`];

  // a path through points that are already in pixels
  const path = (points, colour, width) =>
    `<path fill="none" stroke="var(${colour})" stroke-width="${width}" d="M${points.map((p) => p.join(" ")).join("L")}"/>`;
  const draw = () => {
    const { codes, levels, slopes } = own();
    const y = codes.map((code) => levels[code]);
    const top = Math.max(...y.map(Math.abs), ...slopes.filter((slope) => slope < 4), 1) * 1.1;
    const x = (i) => 40 + (580 * i) / (grid.length - 1);
    const up = (value) => 150 - (135 * Math.max(-top, Math.min(top, value))) / top;
    const steps = (values) =>
      values.flatMap((value, i) => [[x(i) - 2.4, up(value)], [x(i) + 2.4, up(value)]]);
    const here = Number(at("value").value);
    const ticks = [-3, -2, -1, 0, 1, 2, 3].map((v) =>
      `<text x="${x(((v + 3) * (grid.length - 1)) / 6)}" y="296" text-anchor="middle">${v}</text>`);
    svg.innerHTML =
      path([[40, up(0)], [620, up(0)]], "--book-light", 1) +
      path([[x(here), 10], [x(here), 282]], "--book-light", 1) +
      path(steps(slopes), "--book-red", 1.5) +
      path(steps(y), "--book-blue", 2.5) +
      `<circle cx="${x(here)}" cy="${up(y[here])}" r="5" fill="var(--book-blue)"/>` +
      [1, 0, -1].map((v) => `<text x="32" y="${up(v) + 4}" text-anchor="end">${v}</text>`).join("") +
      ticks.join("");
  };
  const show = () => {
    const { codes, levels, slopes } = own();
    const i = Number(at("value").value);
    at("v").textContent = grid[i];
    at("code").textContent = codes[i];
    at("level").textContent = levels[codes[i]];
    at("slope").textContent = slopes[i];
    at("value").setAttribute("aria-valuetext", `v = ${grid[i]}`);
    draw();
  };
  const choose = () => {
    const { bits, parameter, values, equation, tag, line, where, page } = method();
    fill(at("bits"), bits);
    fill(at("number"), values);
    at("number-label").hidden = parameter === "";
    at("number-label").querySelector("span").textContent = parameter;
    at("equation").innerHTML = `${equation} (${tag})`;
    at("line").href = line;
    at("line").textContent = where;
    at("page").href = page;
    show();
  };
  fill(at("method"), methods.map((_, i) => i), methods.map((each) => each.name));
  at("method").addEventListener("change", choose);
  for (const id of ["bits", "number"]) at(id).addEventListener("change", show);
  at("value").addEventListener("input", show);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * 640 - 40) / 580;
    at("value").value = Math.round(Math.max(0, Math.min(1, share)) * (grid.length - 1));
    show();
  });
  at("method").value = 1;
  at("value").value = 78;
  choose();
  at("bits").value = 3;
  at("number").value = 0.5;
  show();
})();
