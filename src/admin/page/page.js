"use strict";
// The status page. Everything comes from the JSON API (docs/api.md) below the page's own address; requests go one after the
// other, because the listener has few connections. Texts of entries are put in as text, never as HTML.
(() => {
  const EVERY = 2000;            // ms between two rounds
  const PATIENCE = 15000;        // ms for one request
  const ABSENT_FOR = 60000;      // ms until an endpoint that is not there is asked for again
  const POINTS = 150;            // of a chart: five minutes
  const PAGE = 100;              // names on a page
  const CHANGES = 200;           // changes that are shown

  const byId = (id) => document.getElementById(id);

  /** An element with attributes and children; strings become text. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null).map((child) => child instanceof Node ? child : String(child)));
    return element;
  }
  const mark = (state, text) => make("span", { class: "mark", "data-state": state }, text);
  const dim = (text) => make("p", { class: "dim" }, text);

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  function rate(n) { return n >= 100 ? whole.format(n) : n >= 1 ? n.toFixed(1) : n > 0 ? n.toFixed(2) : "0"; }
  function duration(seconds) {
    if (seconds == null) return "–";
    if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(1)} µs`;
    if (seconds < 1) return `${(seconds * 1e3).toFixed(1)} ms`;
    const s = Math.floor(seconds);
    if (s < 120) return `${s} s`;
    if (s < 7200) return `${Math.floor(s / 60)} min`;
    if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
  }
  function octets(n) { return n < 2048 ? `${n} B` : n < 2 ** 21 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 2 ** 20).toFixed(1)} MiB`; }
  /** A time with how long ago that is, by the server's clock. */
  function when(time) {
    if (!time) return "–";
    const ago = (clock - Date.parse(time)) / 1000;
    return make("time", { datetime: time, title: time }, ago >= 0 ? `${duration(ago)} ago` : `in ${duration(-ago)}`);
  }
  let clock = Date.now();

  /** Puts children in the place of those there, unless they are the same. */
  function show(parent, ...children) {
    const next = make("div", null, ...children);
    if (next.innerHTML === parent.innerHTML) return;
    parent.replaceChildren(...next.childNodes);
  }

  // ---- The API

  class Failed extends Error {}
  /** What the server said instead of a document. */
  class Refused extends Failed {
    constructor(status, error) {
      super(error ? `${error.reason}; ${error.remedy}` : `the server says ${status}`);
      this.status = status;
      this.field = error ? error.field : "";
    }
    get absent() { return this.status === 404 && this.field !== "name"; }
  }

  let line = Promise.resolve();
  function get(path, parameters) {
    const query = new URLSearchParams(Object.entries(parameters || {}).filter(([, value]) => value !== "" && value != null)).toString();
    const asked = line.then(() => ask(`api/v1/${path}${query ? `?${query}` : ""}`));
    line = asked.catch(() => {});
    return asked;
  }
  async function ask(url) {
    let reply;
    try {
      reply = await fetch(url, { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE) });
    } catch (error) {
      throw new Failed(error.name === "TimeoutError" ? "the server does not answer in time" : "the server cannot be reached");
    }
    const document = await reply.json().catch(() => null);
    if (!reply.ok) throw new Refused(reply.status, document && document.error);
    if (!document) throw new Failed("the reply is no JSON");
    return document;
  }

  /** Endpoints that this version does not have: it is said once, and asked again now and then. */
  const absent = new Map();
  const isAbsent = (name) => absent.has(name) && performance.now() - absent.get(name) < ABSENT_FOR;

  // ---- Header, zones, sources, replicas

  function showStatus(status) {
    clock = Date.parse(status.time);
    byId("version").textContent = `${status.version} ${status.commit}`;
    show(byId("state"), status.ready ? mark("good", "ready") : mark("bad", `not ready: ${status.reasons.join(", ")}`));
    show(byId("facts"), `${status.instance.name}, up ${duration(status.uptimeSeconds)}`);
    document.title = `${status.ready ? "" : "not ready – "}globaldns ${status.instance.name}`;

    const replicas = status.replicas;
    show(byId("zones-rows"), ...status.zones.map((zone) => make("tr", null,
      make("td", { class: "host" }, zone.zone), make("td", { class: "number" }, whole.format(zone.hosts)),
      make("td", { class: "number" }, zone.serial), make("td", null, when(zone.changed)),
      make("td", null, zone.answersHash.toString(16).padStart(14, "0")), make("td", null, agreement(replicas, zone.zone)))));
    options(byId("zone"), status.zones.map((zone) => zone.zone));
    options(byId("code"), Object.keys(status.findings.codes).sort());

    show(byId("health-rows"), ...status.sources.map(source), ...stubDomains(status.stubDomains),
      ...certificate(status.certificate), ...savedState(status.savedState));
    show(byId("replicas-rows"), ...replicaRows(replicas));
  }

  /** Choices behind the first; what is chosen stays. */
  function options(select, values) {
    const now = [...select.options].slice(1).map((option) => option.value);
    if (now.join() === values.join()) return;
    const chosen = select.value;
    while (select.options.length > 1) select.remove(1);
    const kept = chosen && !values.includes(chosen) ? [...values, chosen] : values;
    for (const value of kept) select.append(make("option", null, value));
    select.value = chosen;
  }

  function agreement(replicas, zone) {
    if (!replicas) return make("span", { class: "dim" }, "not asked");
    const others = replicas.peers.filter((peer) => peer.state !== "self");
    const differing = others.filter((peer) => peer.state !== "silent" && peer.zones.some((at) => at.zone === zone && !at.agrees));
    const silent = others.filter((peer) => peer.state === "silent").length;
    if (differing.length) return mark("bad", `${differing.length} of ${others.length} differ`);
    if (silent) return mark("warn", `${silent} of ${others.length} silent`);
    return others.length ? mark("good", `${others.length} agree`) : make("span", { class: "dim" }, "no others");
  }

  function facts(pairs) {
    return make("dl", null, ...pairs.filter(([, value]) => value != null).flatMap(([name, value]) => [make("dt", null, name), make("dd", null, value)]));
  }

  function source(source) {
    const states = { up: "good", saved: "warn", failing: "bad", starting: "warn" };
    const trouble = source.lastTrouble;
    const said = { up: "up", saved: "answers come from saved state", failing: "failing", starting: "no complete list yet" };
    return make("div", null, make("h3", null, `Source ${source.source}`), facts([
      ["state", mark(states[source.state] || "unknown", said[source.state] || source.state)],
      ["entries", whole.format(source.entries)],
      ["last contact", `${duration(source.contactAgeSeconds)} ago`],
      ["changes", `${whole.format(source.events.apply || 0)} applied, ${whole.format(source.events.delete || 0)} deleted, ${source.relists} lists`],
      ["heard until", source.saved ? when(source.saved) : null],
      ["last trouble", trouble ? make("span", null, `${trouble.reason}: ${trouble.text} (`, when(trouble.time), trouble.over ? ", over)" : ")") : null],
    ]));
  }

  function stubDomains(stub) {
    if (!stub) return [];
    const good = ["Verified", "Removed"];
    const under = ["Detected", "Planned", "Propagating"];
    return [make("h3", null, `Stub domains${stub.leader ? ", this replica writes" : ""}`), ...stub.places.map((place) => facts([
      ["place", place.place],
      ["state", mark(good.includes(place.state) ? "good" : under.includes(place.state) ? "warn" : "bad", place.state)],
      ["why", place.message],
      ["done", `${place.writes} written, ${place.reverts} undone by others, ${place.rollbacks} rolled back; ${place.proofs.proved} proofs, ${place.proofs.unproved} failed`],
    ])), ...(stub.places.length ? [] : [dim("No place was found yet.")])];
  }

  function certificate(certificate) {
    if (!certificate) return [];
    const left = certificate.expires ? (Date.parse(certificate.expires) - clock) / 1000 : null;
    const state = !certificate.up || left < 0 ? "bad" : left < 7 * 86400 ? "warn" : "good";
    return [make("h3", null, "Certificate"), facts([
      ["state", mark(state, certificate.up ? "in use" : "cannot be read; an older one stays in use")],
      ["ends", when(certificate.expires)],
    ])];
  }

  function savedState(saved) {
    return (saved || []).map((of) => make("div", null, make("h3", null, `Saved state of ${of.source}`), facts([
      ["on disk", of.heard ? make("span", null, `${octets(of.sizeBytes)}, true `, when(of.heard)) : "nothing yet"],
      ["saves", `${of.saves.success} done, ${of.saves.failure} failed`],
    ])));
  }

  function replicaRows(replicas) {
    if (!replicas) return [dim("Replicas are not compared: start globaldns with --peers NAME.")];
    const states = { self: ["good", "this one"], agrees: ["good", "agrees"], differs: ["bad", "differs"], silent: ["warn", "silent"] };
    const rows = replicas.peers.map((peer) => {
      const [state, text] = states[peer.state] || ["unknown", peer.state];
      const differing = peer.zones.filter((zone) => !zone.agrees);
      return make("li", null, mark(state, text), ` `, make("span", { class: "mono" }, `${peer.instance ? peer.instance.name : "?"} ${peer.address}`),
        peer.state === "self" ? "" : make("span", { class: "dim" }, " since ", when(peer.since)),
        peer.trouble ? make("div", null, peer.trouble) : null,
        ...(peer.state === "differs" ? differing : []).map((zone) => make("div", { class: "mono" }, `${zone.zone}: ${zone.hosts == null ? "no such zone" : `${zone.hosts} hosts`}, differs since `, when(zone.differsSince))));
    });
    const troubles = replicas.troubles.map((trouble) => make("li", null, mark("bad", trouble)));
    const more = replicas.leftOut ? [dim(`${replicas.leftOut} more are not asked.`)] : [];
    return rows.length + troubles.length ? [make("ul", { class: "list" }, ...rows, ...troubles), ...more] : [dim("No replica was found yet.")];
  }

  // ---- Traffic

  const charts = [
    { title: "queries/s", keys: ["all", "failed"], format: rate, points: [] },
    { title: "latency", keys: ["p50", "p99"], format: duration, points: [] },
  ];
  let last = null;

  function makeChart(chart) {
    const namespace = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(namespace, "svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    chart.lines = chart.keys.map((key, at) => {
      const polyline = document.createElementNS(namespace, "polyline");
      polyline.setAttribute("class", `line${at}`);
      svg.append(polyline);
      return polyline;
    });
    chart.values = chart.keys.map(() => make("b", null, "–"));
    chart.most = make("span", null, "");
    const keys = chart.keys.map((key, at) => make("span", null, make("span", { class: `key${at}` }, key), " ", chart.values[at]));
    byId("charts").append(make("figure", null, svg, make("figcaption", null, make("span", null, chart.title), ...keys, chart.most)));
  }

  function draw(chart, values) {
    chart.points.push(values);
    if (chart.points.length > POINTS) chart.points.shift();
    const most = Math.max(...chart.points.flat().map((value) => value || 0));
    const left = POINTS - chart.points.length;
    chart.lines.forEach((line, at) => {
      const points = chart.points.map((point, x) => `${left + x},${most > 0 ? 98 - 94 * (point[at] || 0) / most : 98}`);
      line.setAttribute("points", points.join(" "));
      chart.values[at].textContent = chart.format(values[at]);
    });
    chart.most.textContent = most > 0 ? `max ${chart.format(most)}` : "";
  }

  /** Below which a share of these durations lies, interpolated between bounds. */
  function quantile(counts, bounds, share) {
    const all = counts.reduce((sum, count) => sum + count, 0);
    if (!all) return null;
    let below = 0;
    for (let at = 0; at < counts.length; at++) {
      const from = at ? bounds[at - 1] : 0;
      if (at === bounds.length) return from;
      if (counts[at] && below + counts[at] >= share * all) return from + (bounds[at] - from) * (share * all - below) / counts[at];
      below += counts[at];
    }
    return null;
  }

  const failed = (traffic) => (traffic.responses.SERVFAIL || 0) + (traffic.responses.NXDOMAIN || 0) + (traffic.responses.FORMERR || 0)
    + (traffic.responses.REFUSED || 0);
  function showRates(traffic) {
    const seconds = last ? traffic.seconds - last.seconds : 0;
    if (last && seconds > 0 && traffic.queries >= last.queries) {
      draw(charts[0], [(traffic.queries - last.queries) / seconds, (failed(traffic) - failed(last)) / seconds]);
      const counts = traffic.durationBounds.concat(0).map((_, at) => traffic.transports.reduce((sum, of) => {
        const was = last.transports.find((other) => other.transport === of.transport);
        return sum + of.durations[at] - (was ? was.durations[at] : 0);
      }, 0));
      draw(charts[1], [0.5, 0.99].map((share) => quantile(counts, traffic.durationBounds, share)));
    }
    last = traffic;
    const named = (counts) => Object.entries(counts).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${whole.format(n)}`).join(", ");
    show(byId("traffic-facts"), `Since the start ${whole.format(traffic.queries)} queries`,
      traffic.queries ? `: ${named(traffic.responses)}. ${named(traffic.types)}. ${traffic.transports.map((of) => `${of.transport} ${whole.format(of.queries)}`).join(", ")}` : "",
      `. ${traffic.connections.open} connections open.`);
  }

  // ---- Names

  const names = { search: "", zone: "", after: [""], page: null, chosen: null, shown: "", asked: 0 };

  async function loadNames(moveTo) {
    const asked = ++names.asked;
    const { search, zone, after } = names;
    let page;
    try {
      page = await get("names", { search, zone, limit: PAGE, after: after[after.length - 1] });
    } catch (error) {
      if (asked === names.asked) byId("names-count").textContent = error.message;
      again();
      return;
    }
    // Somebody typed on meanwhile.
    if (asked !== names.asked) return;
    names.page = page;
    showNames(page, moveTo);
  }

  function showNames(page, moveTo) {
    const from = page.before + 1;
    const count = page.matched ? `${whole.format(from)}–${whole.format(page.before + page.names.length)} of ${whole.format(page.matched)}` : "No name matches.";
    byId("names-count").textContent = page.truncated ? `${count} looked at in time; search for more of the name` : count;
    byId("names-back").disabled = names.after.length < 2;
    byId("names-next").disabled = !page.next;

    const rows = byId("names-rows");
    const focused = rows.contains(document.activeElement) ? document.activeElement.textContent : null;
    const view = `${names.search}\n${names.zone}\n${names.after.length}`;
    const before = view === names.shown ? new Map([...rows.children].map((row) => [row.dataset.host, row])) : new Map();
    const fresh = view !== names.shown;
    names.shown = view;
    const made = page.names.map((name) => {
      const key = JSON.stringify(name);
      const old = before.get(name.host);
      if (old && old.dataset.key === key) return old;
      const row = nameRow(name);
      row.dataset.key = key;
      if (!fresh) row.classList.add("new");
      return row;
    });
    rows.replaceChildren(...made);
    if (fresh) rows.closest(".scroll").scrollTop = 0;
    const buttons = [...rows.querySelectorAll("button")];
    const target = moveTo === "first" ? buttons[0] : moveTo === "last" ? buttons[buttons.length - 1]
      : focused != null ? buttons.find((button) => button.textContent === focused) : null;
    if (target) target.focus();
    choose();
  }

  function addresses(name) {
    const listed = [...name.a, ...name.aaaa].join(" ");
    const more = name.addressCount - name.a.length - name.aaaa.length;
    return more > 0 ? `${listed} +${more}` : listed;
  }
  function nameRow(name) {
    const more = name.ownerCount - name.owners.length;
    const row = make("tr", null,
      make("td", { class: "host" }, make("button", { type: "button" }, name.host)),
      make("td", { class: "break" }, addresses(name)), make("td", { class: "number" }, name.ttl),
      make("td", { class: "break" }, name.owners.join(" ") + (more > 0 ? ` +${more}` : "") || "--default-address"));
    row.dataset.host = name.host;
    return row;
  }

  /** Marks the row of the chosen name. */
  function choose() {
    for (const row of byId("names-rows").children) {
      if (row.dataset.host === names.chosen) row.setAttribute("data-chosen", ""); else row.removeAttribute("data-chosen");
    }
  }

  async function loadDetail() {
    const host = names.chosen;
    if (!host) return;
    let content;
    try {
      const name = await get(`names/${encodeURIComponent(host)}`);
      const explain = make("button", { type: "button" }, "Explain");
      explain.addEventListener("click", () => {
        byId("explain-name").value = host.replace(/^\*\./, "any.");
        byId("explain").scrollIntoView();
        loadExplain();
      });
      content = [make("h3", null, make("span", { class: "break" }, name.host)), facts([
        ["zone", name.zone],
        ["A", name.a.join(" ") || "–"],
        ["AAAA", name.aaaa.join(" ") || "–"],
        ["TTL", `${name.ttl} s`],
        ["from", name.owners.join(", ") || "--default-address"],
      ]), make("p", { class: "pager" }, explain)];
    } catch (error) {
      content = [make("h3", null, make("span", { class: "break" }, host)), make("p", null, error.message)];
    }
    if (host !== names.chosen) return;
    byId("detail").hidden = false;
    // The button in it is new each time: nobody is to lose the focus for that.
    const had = byId("detail").contains(document.activeElement);
    byId("detail").replaceChildren(...content);
    if (had && byId("detail").querySelector("button")) byId("detail").querySelector("button").focus();
  }

  function turn(step, moveTo) {
    if (step > 0 && names.page && names.page.next) names.after.push(names.page.next);
    else if (step < 0 && names.after.length > 1) names.after.pop();
    else return;
    loadNames(moveTo);
  }

  let typing = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      names.search = byId("search").value.trim();
      names.after = [""];
      loadNames();
    }, 60);
  });
  byId("zone").addEventListener("change", () => {
    names.zone = byId("zone").value;
    names.after = [""];
    loadNames();
  });
  byId("names-back").addEventListener("click", () => turn(-1));
  byId("names-next").addEventListener("click", () => turn(1));
  byId("names-rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    names.chosen = row.dataset.host;
    choose();
    loadDetail();
  });
  byId("names-rows").addEventListener("keydown", (event) => {
    const buttons = [...byId("names-rows").querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const keys = {
      ArrowDown: () => at + 1 < buttons.length ? buttons[at + 1].focus() : turn(1, "first"),
      ArrowUp: () => at > 0 ? buttons[at - 1].focus() : names.after.length > 1 ? turn(-1, "last") : byId("search").focus(),
      Home: () => buttons[0].focus(),
      End: () => buttons[buttons.length - 1].focus(),
      PageDown: () => turn(1, "first"),
      PageUp: () => turn(-1, "first"),
      Escape: () => byId("search").focus(),
    };
    if (!keys[event.key] || at < 0) return;
    event.preventDefault();
    keys[event.key]();
  });
  byId("search").addEventListener("keydown", (event) => {
    const first = byId("names-rows").querySelector("button");
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      first.focus();
    }
  });
  document.addEventListener("keydown", (event) => {
    const typed = event.target.closest("input, select, textarea");
    if (event.key !== "/" || typed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    byId("search").focus();
    byId("search").select();
  });

  // ---- Explain

  async function loadExplain() {
    const name = byId("explain-name").value.trim();
    if (!name) return;
    const result = byId("explain-result");
    try {
      const explanation = await get("explain", { name, type: byId("explain-type").value });
      result.replaceChildren(...explained(explanation));
    } catch (error) {
      result.replaceChildren(dim(error.message));
    }
  }
  function explained(explanation) {
    return [make("pre", null, explanation.text)];
  }
  byId("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    loadExplain();
  });

  // ---- Findings

  const findings = { pages: [], next: null, asked: 0 };
  async function loadFindings(after) {
    const asked = ++findings.asked;
    let page;
    try {
      page = await get("findings", {
        severity: byId("severity").value, code: byId("code").value, object: byId("object").value.trim(), limit: 50, after,
      });
    } catch (error) {
      if (asked === findings.asked) byId("findings-count").textContent = error.message;
      again();
      return;
    }
    if (asked !== findings.asked) return;
    const counts = Object.entries(page.severities).filter(([, n]) => n).map(([severity, n]) => `${whole.format(n)} ${severity}`);
    byId("findings-count").textContent = counts.join(", ") || "None.";
    const rows = page.findings.map(finding);
    if (after) byId("findings-rows").append(...rows);
    else show(byId("findings-rows"), ...rows);
    findings.next = page.next;
    byId("findings-next").hidden = !page.next;
  }
  function finding(finding) {
    const states = { error: "bad", warning: "warn", info: "unknown" };
    return make("li", null, mark(states[finding.severity], finding.severity), ` ${finding.code} `,
      make("span", { class: "mono" }, finding.object, finding.field ? ` ${finding.field}` : "", finding.value ? ` ${JSON.stringify(finding.value)}` : ""),
      make("div", null, `${finding.why}. `, make("span", { class: "dim" }, finding.remedy)));
  }
  byId("findings-form").addEventListener("submit", (event) => event.preventDefault());
  byId("names-form").addEventListener("submit", (event) => event.preventDefault());
  byId("changes-form").addEventListener("submit", (event) => event.preventDefault());
  byId("severity").addEventListener("change", () => loadFindings());
  byId("code").addEventListener("change", () => loadFindings());
  let filtering = 0;
  byId("object").addEventListener("input", () => {
    clearTimeout(filtering);
    filtering = setTimeout(() => loadFindings(), 200);
  });
  byId("findings-next").addEventListener("click", () => loadFindings(findings.next));

  // ---- Changes and top lists: other versions may lack them

  const changes = { since: 0, host: "", asked: 0 };
  async function loadChanges() {
    if (isAbsent("changes")) return;
    const asked = ++changes.asked;
    const host = byId("changes-host").value.trim();
    if (host !== changes.host) {
      changes.since = 0;
      changes.host = host;
      byId("changes-rows").replaceChildren();
    }
    let page;
    try {
      page = await get("changes", { since: changes.since, limit: CHANGES, host });
    } catch (error) {
      if (asked === changes.asked) offered("changes", error, byId("changes-rows"), "li");
      return;
    }
    // Whoever asked later has these as well.
    if (asked !== changes.asked) return;
    if (absent.delete("changes") || changes.since === 0) byId("changes-rows").replaceChildren();
    const rows = byId("changes-rows");
    // Numbers begin anew with the program.
    if (page.last < changes.since) { changes.since = 0; return; }
    rows.prepend(...page.changes.map(changeRow));
    while (rows.children.length > CHANGES) rows.lastElementChild.remove();
    if (!rows.children.length) rows.append(make("li", { class: "dim" }, "Nothing has changed yet."));
    else if (page.changes.length) rows.querySelectorAll("li.dim").forEach((row) => row.remove());
    changes.since = page.last;
  }
  function changeRow(change) {
    const answers = (of) => of ? `${of.addresses.join(" ")} (${of.ttl} s)` : "nothing";
    const who = [change.entry, change.manager].filter(Boolean).join(", by ");
    return make("li", null, make("time", { class: "dim", datetime: change.time }, change.time), " ", make("span", { class: "mono" }, change.host),
      make("div", { class: "mono" }, `${answers(change.before)} → ${answers(change.after)}`), who ? make("div", { class: "dim" }, who) : null);
  }
  let following = 0;
  byId("changes-host").addEventListener("input", () => {
    clearTimeout(following);
    following = setTimeout(loadChanges, 200);
  });

  async function loadTop() {
    if (isAbsent("top")) return;
    let top;
    try {
      top = await get("top");
    } catch (error) {
      offered("top", error, byId("top-rows"), "p");
      return;
    }
    absent.delete("top");
    const list = (title, rows) => [make("h3", null, title), rows.length ? make("ul", { class: "list" }, ...rows) : dim("None.")];
    const row = (text, count, remedy) => make("li", null, make("span", { class: "mono" }, `${whole.format(count)}  ${text}`), remedy ? make("div", { class: "dim" }, remedy) : null);
    show(byId("top-rows"), dim(`About ${whole.format(top.queries)} queries of the last ${duration(top.seconds)}.`),
      ...list("Names", top.names.map((of) => row(of.name, of.queries))),
      ...list("Suffixes of names that do not exist", top.nxdomainSuffixes.map((of) => row(of.suffix, of.queries, of.remedy))),
      ...list("Clients", top.clients.map((of) => row(of.client, of.queries))));
  }
  function offered(name, error, parent, tag) {
    if (error.absent) absent.set(name, performance.now());
    show(parent, make(tag, { class: "dim" }, error.message));
  }

  // ---- Rounds

  const sequence = { answers: null, entries: null, instance: null };
  /** What failed is asked for in the next round. */
  function again() { sequence.answers = null; }
  async function round(nth) {
    const status = await get("status");
    const now = status.sequence;
    const restarted = status.instance.id !== sequence.instance;
    if (restarted) {
      // Another program counts from elsewhere.
      changes.since = 0;
      last = null;
    }
    showStatus(status);
    showRates(status.traffic);
    if (restarted || now.answers !== sequence.answers || now.entries !== sequence.entries) {
      Object.assign(sequence, now, { instance: status.instance.id });
      await loadNames();
      await loadDetail();
      // What was unfolded further down is not folded up again under somebody's eyes.
      if (byId("findings-rows").children.length <= 50) await loadFindings();
    }
    await loadChanges();
    if (nth % 5 === 0) await loadTop();
  }

  charts.forEach(makeChart);
  (async () => {
    for (let nth = 0; ; nth++) {
      // A page that nobody looks at asks for nothing.
      if (document.visibilityState === "hidden") {
        await new Promise((wake) => document.addEventListener("visibilitychange", wake, { once: true }));
      }
      try {
        await round(nth);
      } catch (error) {
        // A fault of the page's own ends this round, and not all of them.
        if (!(error instanceof Failed)) console.error(error);
        again();
        show(byId("state"), mark("bad", error.message));
      }
      await new Promise((wake) => setTimeout(wake, EVERY));
    }
  })();
})();
