/** Of package.json, which is not beside the program where it runs. */
export const VERSION = "0.1.0";
