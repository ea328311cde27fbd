// Reads a client program's orders and prints what it saw.
'use strict';

const [endpoint, scenarios, ...numbers] = process.argv.slice(2);
const [sequential, concurrent, readBackBytes, messageLimitBytes] = numbers.map(Number);

exports.orders = { endpoint, sequential, concurrent, readBackBytes, messageLimitBytes };

exports.run = async (known) => {
  for (const name of scenarios.split(',')) {
    let seen;
    try {
      seen = await known[name]();
    } catch (error) {
      console.error(error);
      seen = { error: String(error) };
    }
    console.log(JSON.stringify({ scenario: name, ...seen }));
  }
};

exports.nameOf = (codes, number) =>
  Object.keys(codes).find((name) => codes[name] === number) ?? String(number);
