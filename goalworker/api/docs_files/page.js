// Addresses are relative, so that the page works behind a path prefix too.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#operations",
  deepLinking: true,
  displayOperationId: true,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: false,
  validatorUrl: null, // the default sends the document's address to a host on the internet
});
