// What the drivers in Node share: the order they are given, and the one line they say.
//
// A driver is called as `driver.js BASE_URL ORDER`, with ORDER in JSON. It does one call with its SDK
// and prints one JSON object: what its user would have in hand, as a value or as an exception.

const [base, order] = process.argv.slice(2);

// Does the call. `told` reads what it returned, `raised` reads the exception.
async function tell(call, told, raised) {
  let said;
  try {
    said = { result: 'ok', ...told(await call()) };
  } catch (error) {
    said = { result: 'error', type: error.constructor.name, message: error.message, ...raised(error) };
  }
  // Some SDKs leave a timer behind that would hold the process for as long as their time-out.
  process.stdout.write(`${JSON.stringify(said)}\n`, () => process.exit());
}

module.exports = { base: new URL(base), buy: JSON.parse(order), tell };
