// usage: node produce.js KAFKA TOPIC CODEC
const { Kafka, CompressionTypes, Partitioners } = require("kafkajs");

const [kafka, topic, codec] = process.argv.slice(2);
const many = Object.fromEntries([...Array(20).keys()].map((number) => [`name ${number}`, "value"]));
const messages = [
  { key: "key", value: "plain" },
  { key: null, value: "no key", headers: { a: "1" } },
  { key: "key", value: null },
  { key: "", value: "", headers: { x: ["", "1"], "": "name", é: Buffer.from([0xff, 0xfe]) } },
  { key: "key", value: "v".repeat(2000), headers: many },
];

(async () => {
  const producer = new Kafka({ brokers: [kafka] }).producer({ createPartitioner: Partitioners.LegacyPartitioner });
  await producer.connect();
  await producer.send({ topic, compression: codec === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None, messages });
  await producer.disconnect();
})();
