import { expect, test } from "vitest";
import { problemText } from "../src/data/rest";
import { fieldsOf, readField } from "../src/form/fields";
import { adjusted, began, changed, redone, undone } from "../src/form/history";
import type { JsonSchema } from "../src/wire";

const schema: JsonSchema = {
  required: ["zone_id", "kind"],
  properties: {
    zone_id: { type: "string", minLength: 1, pattern: "^[a-z0-9-]+$" },
    kind: { $ref: "#/$defs/Kind" },
    max_depth_m: {
      anyOf: [{ type: "number", minimum: 0, exclusiveMaximum: 11_000 }, { type: "null" }],
      default: null,
    },
    from: { anyOf: [{ type: "string", format: "time" }, { type: "null" }] },
    tags: { type: "array", items: { type: "string" } },
    severity: { anyOf: [{ $ref: "#/$defs/Kind" }, { type: "array" }] },
    geometry: { type: "object" },
  },
  $defs: { Kind: { type: "string", enum: ["reserve", "lane"] } },
};

const fields = fieldsOf(schema, new Set(["geometry"]));
const field = (name: string) => {
  const found = fields.find((each) => each.name === name);
  if (!found) throw new Error(`no field ${name}`);
  return found;
};

test("a schema says which inputs a form needs", () => {
  expect(
    fields.map(({ name, kind, required, nullable }) => [name, kind, required, nullable]),
  ).toEqual([
    ["zone_id", "text", true, false],
    ["kind", "choice", true, false],
    ["max_depth_m", "number", false, true],
    ["from", "time", false, true],
    ["tags", "json", false, false],
    ["severity", "json", false, false],
  ]);
  expect(field("kind").choices).toEqual(["reserve", "lane"]);
});

test("inputs are read as the schema wants them", () => {
  expect(readField(field("max_depth_m"), " 12.5 ")).toEqual({ value: 12.5 });
  expect(readField(field("max_depth_m"), "")).toEqual({ value: null });
  expect(readField(field("max_depth_m"), "-1")).toEqual({ problem: "must be at least 0" });
  expect(readField(field("max_depth_m"), "11000")).toEqual({ problem: "must be less than 11000" });
  expect(readField(field("max_depth_m"), "deep")).toEqual({ problem: "must be a number" });
  expect(readField(field("zone_id"), "")).toEqual({ problem: "is needed" });
  expect(readField(field("zone_id"), "Not OK")).toHaveProperty("problem");
  expect(readField(field("from"), "6:30")).toEqual({ value: "06:30:00" });
  expect(readField(field("from"), "22:15:10")).toEqual({ value: "22:15:10" });
  expect(readField(field("from"), "25:00")).toHaveProperty("problem");
  expect(readField(field("tags"), '["a"]')).toEqual({ value: ["a"] });
  expect(readField(field("tags"), "[")).toEqual({ problem: "must be JSON" });
});

test("undo and redo walk through what was changed", () => {
  let history = changed(changed(began("a"), "b"), "c");
  history = adjusted(history, "c2");
  history = undone(history);
  expect(history.now).toBe("b");
  history = undone(undone(history));
  expect(history.now).toBe("a");
  expect(redone(redone(history)).now).toBe("c2");
  expect(changed(history, "d").future).toEqual([]);
});

test("the words of an error are found in any usual body", () => {
  expect(problemText({ error: { message: "no", hint: "try yes" } }, 422)).toBe("no. try yes");
  expect(problemText({ detail: [{ loc: ["body", "kind"], msg: "is wrong" }] }, 422)).toBe(
    "kind: is wrong",
  );
  expect(problemText({ detail: "gone" }, 404)).toBe("gone");
  expect(problemText(null, 500)).toBe("the gateway answered 500");
});

test("where text will do, it needs no quotes, and JSON is still JSON", () => {
  expect(readField(field("severity"), "lane")).toEqual({ value: "lane" });
  expect(readField(field("severity"), '[{"when": "x > 1"}]')).toEqual({
    value: [{ when: "x > 1" }],
  });
  expect(readField(field("tags"), "lane")).toEqual({ problem: "must be JSON" });
});
