// Lint an OpenAPI or AsyncAPI document: print each finding as a line and exit with 1 when there is one.
const { readFileSync } = require("node:fs");

async function openapi(text) {
  const { Spectral, Document } = require("@stoplight/spectral-core");
  const { Json } = require("@stoplight/spectral-parsers");
  const { oas } = require("@stoplight/spectral-rulesets");
  const examples = oas.rules["oas3-valid-media-example"];
  const spectral = new Spectral();
  spectral.setRuleset({
    extends: [[oas, "recommended"]],
    rules: {
      "info-contact": "off", // whoever runs it is the contact
      "path-keys-no-trailing-slash": "off", // /api/v1/order/ is as the system wrote it that it follows
      "operation-description": "off", // the summary says it, and a description what one sentence cannot
      // it takes an XML text for a JSON value of the wrong type; our own tests hold those against the XSD
      "oas3-valid-media-example": {
        ...examples,
        given: ["$..content['application/json']", "$..content['application/problem+json']"],
      },
    },
  });
  return spectral.run(new Document(text, Json));
}

async function asyncapi(text) {
  const { Parser } = require("@asyncapi/parser");
  const { AvroSchemaParser } = require("@asyncapi/avro-schema-parser");
  const parser = new Parser();
  parser.registerSchemaParser(AvroSchemaParser());
  return parser.validate(text);
}

async function main(path) {
  const text = readFileSync(path, "utf8");
  const findings = await ("asyncapi" in JSON.parse(text) ? asyncapi(text) : openapi(text));
  for (const finding of findings) console.log(`${finding.code} at ${finding.path.join("/")}: ${finding.message}`);
  process.exitCode = findings.length ? 1 : 0;
}

main(process.argv[2]);
