import { workerData } from "node:worker_threads";
import { bePatient, type Patience } from "./patience.ts";

/** A thread that ends with the waiting. */
bePatient(workerData as Patience);
