import { expect, test } from "vitest";
import { moduleOrder } from "../guest/initramfs.ts";

test.each([
  ["what it needs comes first", "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n", ["a"], "c.ko b.ko a.ko"],
  ["once, also when two need it", "a.ko: c.ko\nb.ko: c.ko\nc.ko:\n", ["a", "b"], "c.ko a.ko b.ko"],
  ["its name is the file's", "net/9p/9p.ko:\nnet/9p/9pnet.ko:\n", ["9p"], "net/9p/9p.ko"],
  ["one that is built in is not loaded", "a.ko:\n", ["virtio_pci", "a"], "a.ko"],
])("modules in the order of loading: %s", (_, dependencies, names, order) => {
  expect(moduleOrder(dependencies, names).join(" ")).toBe(order);
});
