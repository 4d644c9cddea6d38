/** For `vi.waitFor`, whose own is a second: how soon is never what is tested. */
export const PATIENT = { timeout: 20_000 } as const;
