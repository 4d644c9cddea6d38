import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { familiesOf } from "../../../agent/api/metric-families.ts";
import { type PeerSeen, type PeerState, peerState } from "../../../agent/api/peer-state.ts";
import { controllerFamilies } from "../../../controller/metrics.ts";
import { DASHBOARD, dashboard } from "../../../deploy/grafana-dashboard.ts";
import { exposition } from "../../../shared/exposition.ts";
import type { MetricFamily } from "../../../shared/metric-family.ts";
import { VERSION } from "../../../shared/version.ts";
import { controllerFacts, fullFacts } from "../../support/metrics-facts.ts";

const root = join(import.meta.dirname, "../../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

const ofAgent = familiesOf(fullFacts(3, 2));
const ofController = controllerFamilies(controllerFacts(3));
const all = [...ofAgent, ...ofController];
const names = all.map(({ name }) => name);

const samplesOf = (family: MetricFamily): readonly { readonly labels: object }[] =>
  family.kind === "histogram" ? family.timed : family.samples;

/** `name{labels} value` by the first part. */
function seriesOf(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

const shownOf = (facts: Parameters<typeof familiesOf>[0]): Map<string, number> =>
  seriesOf(exposition(familiesOf(facts)));

describe("the names", () => {
  test("are each there once, and an agent's none of its controller's", () => {
    expect(names).toHaveLength(new Set(names).size);
  });

  test("are there before anything is known, so that who looks for them finds them", () => {
    const { process } = fullFacts(1, 1);
    const early = familiesOf({ process, member: undefined, plugin: undefined });
    expect(early.map(({ name }) => name)).toEqual(ofAgent.map(({ name }) => name));
    expect(seriesOf(exposition(early)).get("overlay_ts_member")).toBe(0);
  });

  test("end as what they are: counters in _total, no other; all with a word of what they mean", () => {
    for (const { name, kind, help } of all) {
      expect(name).toMatch(/^overlay_ts_[a-z_]+$/);
      expect(name.endsWith("_total"), name).toBe(kind === "counter");
      expect(help, name).toMatch(/\.$/);
    }
  });

  test("are documented as they are", () => {
    const rows = all.map((family) => {
      const labels = new Set(samplesOf(family).flatMap((sample) => Object.keys(sample.labels)));
      const shown = [...labels].map((label) => `\`${label}\``).join(", ");
      return [`\`${family.name}\``, family.kind, shown, family.help];
    });
    const documented = read("deploy/prometheus/README.md")
      .split("\n")
      .filter((line) => line.startsWith("| `overlay_ts_"))
      .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "").trim()));
    expect(documented).toEqual(rows);
  });

  test("are each shown in the dashboard or asked for by an alert, which name no others", () => {
    const texts = [dashboard(), read("deploy/prometheus/alerts.yml")].join("\n");
    const used = new Set(
      [...texts.matchAll(/overlay_ts_[a-z_]+/g)].map(([name]) =>
        names.includes(name) ? name : name.replace(/_(bucket|sum|count)$/, ""),
      ),
    );
    expect([...used].toSorted()).toEqual(names.toSorted());
  });
});

test("the dashboard's file is what is written by `node deploy/grafana-dashboard.ts`", () => {
  expect(readFileSync(DASHBOARD, "utf8")).toBe(dashboard());
});

test("every alert of the rules has a test that it fires", () => {
  const alerts = [...read("deploy/prometheus/alerts.yml").matchAll(/- alert: (\w+)/g)];
  const tests = read("deploy/prometheus/alerts.test.yml");
  expect(alerts).toHaveLength(13);
  for (const [, alert = ""] of alerts) {
    const asked = tests.split(`alertname="${alert}",alertstate="firing"`).length - 1;
    // Before its time, and then.
    expect(asked, alert).toBeGreaterThanOrEqual(2);
  }
});

test("the version is the package's", () => {
  expect(JSON.parse(read("package.json"))).toMatchObject({ version: VERSION });
});

describe("a host of 1,000, on 50 of the cluster's networks", () => {
  const small = shownOf(fullFacts(10, 1)).size;

  test("has as many series as one of ten hosts, but for those that it does not reach", () => {
    // One of nine is not reached; of 999 a hundred: twenty have names, the others are counted.
    expect(shownOf(fullFacts(1000, 1)).size).toBe(small - 1 + 21);
    const shown = shownOf(fullFacts(1000, 50));
    expect(shown.get('overlay_ts_peer_unreached{peer="others"}')).toBe(80);
    expect(shown.get('overlay_ts_peers{state="unreached"}')).toBe(100);
    expect(shown.get('overlay_ts_peers{state="reached"}')).toBe(899);
  });

  test("has five more for each network that it is on, up to a bound", () => {
    expect(shownOf(fullFacts(10, 50)).size).toBe(small + 49 * 5);
    const most = shownOf(fullFacts(10, 256)).size;
    expect(shownOf(fullFacts(10, 4000)).size).toBe(most);
    expect(shownOf(fullFacts(10, 4000)).get("overlay_ts_networks_here")).toBe(4000);
  });

  test("has no more than the documents say, when all has happened that can", () => {
    const said = /at most (\d+) series and five for each network/.exec(
      read("deploy/prometheus/README.md"),
    );
    expect(shownOf(fullFacts(1000, 50)).size).toBeLessThanOrEqual(Number(said?.[1]) + 50 * 5);
    expect(shownOf(fullFacts(1000, 50)).size).toBeGreaterThan(Number(said?.[1]) + 50 * 5 - 20);
  });
});

test.each<[PeerSeen, PeerState]>([
  [{ isLost: false, answers: [true], isBehindNat: false }, "reached"],
  [{ isLost: false, answers: [false, true], isBehindNat: true }, "reached"],
  [{ isLost: false, answers: [false], isBehindNat: false }, "silent"],
  [{ isLost: true, answers: [false], isBehindNat: false }, "unreached"],
  [{ isLost: true, answers: [], isBehindNat: true }, "unreached"],
  [{ isLost: false, answers: [], isBehindNat: true }, "behind_nat"],
  [{ isLost: false, answers: [], isBehindNat: false }, "not_asked"],
])("a host with %j is counted as %s", (seen, state) => {
  expect(peerState(seen)).toBe(state);
});

test("two networks that have one name for a moment are told apart by their ids", () => {
  const facts = fullFacts(2, 2);
  const { status } = facts.member!;
  const networks = status.networks.map((one) => ({ ...one, name: "app" }));
  const member = { ...facts.member!, status: { ...status, networks } };
  const shown = shownOf({ ...facts, member });
  for (const { id } of networks)
    expect(shown.get(`overlay_ts_network_in_sync{network="${id}"}`)).toBe(1);
});

describe("a controller", () => {
  test("of 4,000 networks shows those with the fewest addresses left", () => {
    const shown = seriesOf(exposition(controllerFamilies(controllerFacts(4000))));
    const left = [...shown.keys()].filter((name) => name.startsWith("overlay_ts_blocks_free"));
    expect(left).toHaveLength(20);
    expect(shown.get('overlay_ts_blocks_free_addresses{network="network-7"}')).toBe(64);
    expect(shown.get("overlay_ts_networks")).toBe(4000);
  });

  test("counts tokens that let somebody in, and says when it was saved, or that it never was", () => {
    const shown = (backedUpAtMs: number | undefined) =>
      seriesOf(exposition(controllerFamilies({ ...controllerFacts(1), backedUpAtMs })));
    expect(shown(5000).get("overlay_ts_tokens")).toBe(1);
    expect(shown(5000).get("overlay_ts_last_backup_time_seconds")).toBe(5);
    expect(shown(undefined).get("overlay_ts_last_backup_time_seconds")).toBe(0);
    expect(shown(5000).get('overlay_ts_requests_total{kind="join",result="refused"}')).toBe(1);
  });
});
