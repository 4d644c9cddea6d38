import own from "../../package.json" with { type: "json" };

/** Of this program. In the bundle package.json is a part of it. */
export const VERSION: string = own.version;
