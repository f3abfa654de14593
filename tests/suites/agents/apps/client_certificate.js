// The released Node agent has no setting for a client certificate: `node -r ./client_certificate.js` gives its TLS credentials the files.
const fs = require('fs');
const { credentials } = require('@grpc/grpc-js');

const make = credentials.createSsl.bind(credentials);
credentials.createSsl = () =>
  make(...['SW_TLS_CA', 'SW_TLS_KEY', 'SW_TLS_CERT'].map((name) => fs.readFileSync(process.env[name])));
