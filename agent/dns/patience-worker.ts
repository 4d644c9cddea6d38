import { workerData } from "node:worker_threads";
import { beingPatient, type Patience } from "./patience.ts";

/** A thread that ends with the waiting. */
beingPatient(workerData as Patience);
