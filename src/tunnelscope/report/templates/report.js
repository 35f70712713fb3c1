// Draws every figure in the colours of the reader's scheme, keeps the data sets switched off in all figures alike,
// and saves figures as SVG or PNG and numbers as CSV. Nothing here reaches for a network.

const root = document.documentElement;
const payload = JSON.parse(document.getElementById("payload").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = {}; // key of a figure -> {view, result, choice}
let shownSets = null; // the tuples of the data sets switched on; null until the reader switches one off

const problems = [];
function report(problem) {
  problems.push(String(problem?.stack || problem?.message || problem));
  root.dataset.errors = JSON.stringify(problems);
  const notice = document.getElementById("errors");
  notice.textContent = `Something on this page could not be drawn: ${problem?.message || problem}`;
  notice.hidden = false;
}
window.addEventListener("error", (event) => report(event.error || event.message));
window.addEventListener("unhandledrejection", (event) => report(event.reason));
root.dataset.errors = "[]";

// -- data ------------------------------------------------------------------------------------------------------

function unpack(columns) {
  const names = Object.keys(columns);
  const read = names.map((name) => {
    const column = columns[name];
    return Array.isArray(column) ? (row) => column[row] : (row) => column.values[column.places[row]];
  });
  const first = names.length ? columns[names[0]] : [];
  const length = (Array.isArray(first) ? first : first.places).length;
  return Array.from({ length }, (_, row) => Object.fromEntries(names.map((name, i) => [name, read[i](row)])));
}

for (const figure of Object.values(payload.figures)) {
  const names = Object.keys(figure.datasets);
  figure.rows = Object.fromEntries(names.map((name) => [name, unpack(figure.datasets[name])]));
}

// -- drawing ---------------------------------------------------------------------------------------------------

const scheme = () => (dark.matches ? "dark" : "light");

function specOf(key, width) {
  const figure = payload.figures[key];
  const spec = structuredClone(figure.spec);
  spec.datasets = figure.rows;
  if (figure.square) {
    const side = Math.max(220, Math.min(width - 60, 520));
    spec.width = spec.height = side;
  } else if (width < 520) {
    spec.height = Math.round(spec.height * 0.85);
  }
  const choice = spec.params?.find((param) => param.name === "choice");
  if (choice && drawn[key]?.choice !== undefined) choice.value = drawn[key].choice;
  return spec;
}

async function draw(key) {
  const place = document.querySelector(`.chart[data-figure="${key}"]`);
  const before = drawn[key];
  const options = { actions: false, renderer: "svg", config: payload.config[scheme()], tooltip: { theme: "custom" } };
  const result = await window.vegaEmbed(place, specOf(key, place.clientWidth), options);
  before?.result.finalize();
  const view = result.view;
  drawn[key] = { view, result, choice: before?.choice };
  if (payload.figures[key].spec.params.some((param) => param.name === "choice"))
    view.addSignalListener("choice", (_, value) => (drawn[key].choice = value));
  followSets(view);
}

async function drawAll() {
  for (const key of Object.keys(payload.figures)) {
    try {
      await draw(key);
    } catch (problem) {
      report(problem);
    }
  }
  root.dataset.drawn = String(Object.keys(drawn).length);
}

// A data set switched off in one legend is off in every figure: the charts hold their selection in `sets_store`.
function hasSets(view) {
  try {
    return Boolean(view.data("sets_store"));
  } catch {
    return false; // Vega's answer for data a chart does not have
  }
}
const namesIn = (tuples) => JSON.stringify(tuples.map((tuple) => tuple.values).sort());
const plainTuples = (tuples) => tuples.map(({ unit, fields, values }) => ({ unit, fields, values }));

function followSets(view) {
  if (!hasSets(view)) return;
  if (shownSets) view.data("sets_store", plainTuples(shownSets)).run();
  view.addDataListener("sets_store", (_, tuples) => {
    if (shownSets && namesIn(shownSets) === namesIn(tuples)) return;
    shownSets = plainTuples(tuples);
    for (const other of Object.values(drawn)) {
      if (other.view === view || !hasSets(other.view)) continue;
      other.view.data("sets_store", plainTuples(shownSets)).runAsync();
    }
  });
}

// -- saving ----------------------------------------------------------------------------------------------------

function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Files are for slides and papers: always in light colours, at one width, showing what is switched on now.
async function fileView(key) {
  const spec = specOf(key, payload.fileWidth);
  if (!payload.figures[key].square) {
    spec.width = payload.fileWidth;
    spec.height = payload.figures[key].spec.height;
  }
  const config = { ...payload.config.light, background: payload.paper, padding: 12 };
  const options = { actions: false, renderer: "svg", config };
  const { view } = await window.vegaEmbed(document.createElement("div"), spec, options);
  if (shownSets && hasSets(view)) view.data("sets_store", plainTuples(shownSets));
  return view.runAsync();
}

function csv(columns, rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function figureCsv(key) {
  const figure = payload.figures[key];
  const rows = figure.rows[figure.csv];
  const known = (name) => name !== "label_at" && rows.some((row) => row[name] !== null);
  const columns = Object.keys(figure.datasets[figure.csv]).filter(known);
  const titles = columns.map((name) => (name === "value" ? key : name));
  return csv(titles, rows.map((row) => columns.map((name) => row[name])));
}

const tableCsv = (name) => csv(payload.tables[name].columns, payload.tables[name].rows);

async function saveAs(kind, key, table) {
  const name = `${payload.name}-${key || table}`;
  if (kind === "csv") return save(key ? figureCsv(key) : tableCsv(table), "text/csv;charset=utf-8", `${name}.csv`);
  const view = await fileView(key);
  if (kind === "svg") save(await view.toSVG(), "image/svg+xml", `${name}.svg`);
  else {
    const picture = await view.toCanvas(3);
    picture.toBlob((blob) => save(blob, "image/png", `${name}.png`), "image/png");
  }
  view.finalize();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (!button) return;
  if (button.dataset.save) saveAs(button.dataset.save, button.dataset.figure, button.dataset.table).catch(report);
  if ("copy" in button.dataset) copy(button);
});

async function copy(button) {
  const code = button.closest(".code").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard on this page: leave the code selected
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// -- start, and again when the scheme or the width changes ------------------------------------------------------

window.tunnelscope = { drawn, csv: figureCsv, tableCsv, fileView };
dark.addEventListener("change", drawAll);
let width = root.clientWidth;
let waiting;
window.addEventListener("resize", () => {
  if (root.clientWidth === width) return; // a phone's address bar changes the height alone
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    width = root.clientWidth;
    for (const key of Object.keys(payload.figures)) if (payload.figures[key].square) draw(key).catch(report);
  }, 200);
});
await drawAll();
