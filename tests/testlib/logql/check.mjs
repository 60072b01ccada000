// Print the parts of each LogQL query of a JSON array on standard input that are no LogQL.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-logql";

const find = (query) => {
  const errors = [];
  parser.parse(query).iterate({
    enter: ({ type, from, to }) => {
      if (type.isError) errors.push(`${from}: ${query.slice(from, to + 20)}`);
    },
  });
  return errors;
};
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(find)));
