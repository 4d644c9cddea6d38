/** Who may do nothing on a host, and the command that makes a program run as such a one, in the namespaces of who starts it. */
export const WITHOUT_RIGHTS: readonly (readonly [string, readonly string[]])[] = [
  [
    "of nobody's",
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"],
  ],
  // What a container of `--network host --cap-drop ALL` runs.
  [
    "of root's without a capability",
    ["setpriv", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"],
  ],
];
