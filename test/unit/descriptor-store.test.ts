import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DescriptorStore, MAX_KEPT } from "../../shared/node/descriptor-store.ts";
import type { Sent } from "../../shared/node/notify-socket.ts";
import type { Descriptor } from "../../shared/node/supervision.ts";

describe("what the manager is told", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** Shows `keep name fd` and `remove name`, in order. */
  function manager(inherited: readonly Descriptor[] = []) {
    const said: string[] = [];
    const closed: number[] = [];
    const answers = { next: "sent" as Sent };
    const socket = {
      sendWith(fd: number | undefined, ...lines: readonly string[]): Sent {
        const name = lines.at(-1)?.replace("FDNAME=", "");
        const what = fd === undefined ? "FDSTOREREMOVE=1" : "FDSTORE=1 FDPOLL=0";
        expect(lines.slice(0, -1).join(" ")).toBe(what);
        if (answers.next === "sent") said.push(fd === undefined ? `- ${name}` : `${name} ${fd}`);
        return answers.next;
      },
    };
    const store = new DescriptorStore(socket, inherited, (fd) => closed.push(fd));
    return { store, said, closed, answers };
  }

  test("keeps and releases by name, and nothing that it does not have", () => {
    const { store, said } = manager();
    expect(store.keep("a-u", 9)).toBe(true);
    store.release("a-u");
    store.release("a-u");
    expect(said).toEqual(["a-u 9", "- a-u"]);
  });

  test("a name that is kept is replaced", () => {
    const { store, said } = manager([{ name: "a-u", fd: 4 }]);
    store.keep("a-u", 9);
    expect(said).toEqual(["- a-u", "a-u 9"]);
    expect(store.kept.get("a-u")).toBe(4);
  });

  test("of a name that came back twice the newest stays, here and with the manager", () => {
    const { store, said, closed } = manager([
      { name: "a-u", fd: 4 },
      { name: "a-t", fd: 5 },
      { name: "a-u", fd: 6 },
    ]);
    expect([...store.kept]).toEqual([
      ["a-u", 4],
      ["a-t", 5],
    ]);
    expect(closed).toEqual([6]);
    expect(said).toEqual(["- a-u", "a-u 4"]);
  });

  test("a manager that is busy hears all of it later, in order", () => {
    const { store, said, answers } = manager([{ name: "old", fd: 3 }]);
    answers.next = "full";
    store.keep("a-u", 9);
    store.release("old");
    store.keep("b-u", 10);
    vi.advanceTimersByTime(1000);
    expect(said).toEqual([]);
    answers.next = "sent";
    vi.advanceTimersByTime(1000);
    expect(said).toEqual(["a-u 9", "- old", "b-u 10"]);
  });

  test("what was released before it could be said is never said: its descriptor may be another's", () => {
    const { store, said, answers } = manager([{ name: "old", fd: 3 }]);
    answers.next = "full";
    store.keep("new", 9);
    store.keep("old", 10);
    store.release("new");
    store.release("old");
    answers.next = "sent";
    vi.advanceTimersByTime(1000);
    expect(said).toEqual(["- old"]);
  });

  test("what it cannot take is counted, and does not hold up the rest", () => {
    const { store, said, answers } = manager();
    answers.next = "refused";
    store.keep("a-u", 99);
    answers.next = "sent";
    store.keep("b-u", 9);
    expect(said).toEqual(["b-u 9"]);
    expect(store.refused).toBe(1);
  });

  test("no more than the service's unit lets it keep", () => {
    const { store } = manager();
    for (let i = 0; i < MAX_KEPT; i++) expect(store.keep(`${i}-u`, i)).toBe(true);
    expect(store.keep("one more", 9)).toBe(false);
    expect(store.refused).toBe(1);
    store.release("0-u");
    expect(store.keep("one more", 9)).toBe(true);
  });
});

test("the agent's unit keeps as many, and has room for them", () => {
  const unit = readFileSync(
    join(import.meta.dirname, "../../deploy/systemd/overlay-ts-agent.service"),
    "utf8",
  );
  const number = (name: string): number =>
    Number(new RegExp(`^${name}=(\\d+)$`, "m").exec(unit)?.[1]);
  expect(number("FileDescriptorStoreMax")).toBe(MAX_KEPT);
  expect(number("LimitNOFILE")).toBeGreaterThan(4 * MAX_KEPT);
});
