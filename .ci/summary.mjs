// What a run's JSON report says, for who reads its end. Argument: the report. Last line: passed, failed, skipped.
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const FAILURE_LINES = 20;

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));

const again = report.testResults.flatMap(({ name, assertionResults }) =>
  assertionResults
    .filter(({ status, failureMessages }) => status === "passed" && failureMessages.length > 0)
    .map((test) => ({ name, ...test })),
);
if (again.length > 0)
  console.log(
    `Passed at the second attempt, ${again.length}; each first failure is to be explained:`,
  );
for (const test of again) tellFailure("  ", test);

/** Who reads only a run's end sees there why it failed: the test, its error, what its lab's hosts wrote. */
function tellFailure(prefix, { name, fullName, failureMessages, meta }) {
  console.log(`${prefix}${relative(".", name)} > ${fullName}`);
  const message = failureMessages
    .join("\n")
    .split("\n")
    .filter((line) => !line.includes("node_modules"))
    .slice(0, FAILURE_LINES)
    .join("\n    ");
  console.log(`    ${message}`);
  if (meta?.hosts) console.log(`    ${meta.hosts.split("\n").join("\n    ")}`);
}

console.log("Each file's time in seconds, from its first test to its last, slowest first:");
const rows = report.testResults.map(({ name, startTime, endTime }) => ({
  name,
  seconds: Math.round((endTime - startTime) / 1000),
}));
for (const { name, seconds } of rows.sort((a, b) => b.seconds - a.seconds))
  console.log(String(seconds).padStart(6), relative(".", name));

for (const { name, status, message, assertionResults } of report.testResults) {
  const failed = assertionResults.filter((test) => test.status === "failed");
  for (const test of failed) tellFailure("FAILED ", { name, ...test });
  if (status === "failed" && failed.length === 0)
    tellFailure("FAILED ", { name, fullName: "(the file)", failureMessages: [message] });
}

const {
  numPassedTests,
  numFailedTests,
  numFailedTestSuites,
  numPendingTests,
  numTodoTests = 0,
} = report;
const failed = numFailedTests || numFailedTestSuites;
console.log(
  `${numPassedTests} passed, ${failed} failed, ${numPendingTests + numTodoTests} skipped`,
);
