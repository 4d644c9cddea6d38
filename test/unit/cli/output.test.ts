import { expect, test, vi } from "vitest";
import { fail } from "../../../agent/cli/output.ts";
import { OverlayError } from "../../../shared/errors.ts";

/** On stderr, and the exit status. */
function failed(error: unknown, json = false): { said: string; status: number } {
  const written: string[] = [];
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
  try {
    const status = fail({ json }, error);
    return { said: written.join(""), status };
  } finally {
    stderr.mockRestore();
  }
}

test.each([
  ["a system's error", new Error("EIO: i/o error, read")],
  [
    "an agent's of before, without a next step",
    new OverlayError({ code: "NETLINK", message: "EIO: i/o error, read" }),
  ],
])("%s is printed with what to do", (_, error) => {
  const { said, status } = failed(error);
  expect(said).toMatch(/^overlay-ts: EIO: i\/o error, read\n {2}→ .*journalctl/);
  expect(status).toBe(1);
  const { failure } = JSON.parse(failed(error, true).said) as { failure: { next?: string } };
  expect(failure.next).toMatch(/journalctl/);
});

test("what says itself what to do says nothing else", () => {
  const error = new OverlayError({ code: "NOT_FOUND", message: "no app", next: "make one" });
  expect(failed(error)).toEqual({ said: "overlay-ts: no app\n  → make one\n", status: 5 });
});
