// What a run's JSON report says, for who reads its end. Argument: the report. Last line: passed, failed, skipped.
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));

const again = report.testResults.flatMap(({ name, assertionResults }) =>
  assertionResults
    .filter(({ status, failureMessages }) => status === "passed" && failureMessages.length > 0)
    .map(({ fullName, failureMessages }) => ({ name, fullName, error: failureMessages[0] })),
);
if (again.length > 0)
  console.log(
    `Passed at the second attempt, ${again.length}; each first failure is to be explained:`,
  );
for (const { name, fullName, error } of again) {
  console.log(`  ${relative(".", name)} > ${fullName}`);
  console.log(`    ${error.split("\n").slice(0, 20).join("\n    ")}`);
}

console.log("Each file's time in seconds, from its first test to its last, slowest first:");
const rows = report.testResults.map(({ name, startTime, endTime }) => ({
  name,
  seconds: Math.round((endTime - startTime) / 1000),
}));
for (const { name, seconds } of rows.sort((a, b) => b.seconds - a.seconds))
  console.log(String(seconds).padStart(6), relative(".", name));

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
