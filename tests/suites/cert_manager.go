// Makes what cert-manager's CA issuer makes, with cert-manager's own code and without a cluster: a CA and a certificate
// that it signs, each as the Secret that the controllers would store. Built and called by foreign-ca.sh with a directory
// and the URI that the certificate carries.
package main

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cm "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/util/pki"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cert_manager DIRECTORY URI")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(directory, uri string) error {
	authority := certificate("a cert-manager CA", 10*365*24*time.Hour)
	authority.Spec.IsCA = true
	authority.Spec.Usages = []cm.KeyUsage{cm.UsageCertSign, cm.UsageCRLSign}
	caKey, err := pki.GeneratePrivateKeyForCertificate(authority)
	if err != nil {
		return err
	}
	template, err := pki.CertificateTemplateFromCertificate(authority)
	if err != nil {
		return err
	}
	caPEM, ca, err := pki.SignCertificate(template, template, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if err := store(directory, "ca", caKey, caPEM, caPEM); err != nil {
		return err
	}

	web := certificate("web", 24*time.Hour)
	web.Spec.DNSNames = []string{"localhost"}
	web.Spec.IPAddresses = []string{"127.0.0.1"}
	web.Spec.URIs = []string{uri}
	web.Spec.Usages = []cm.KeyUsage{cm.UsageDigitalSignature, cm.UsageServerAuth}
	key, err := pki.GeneratePrivateKeyForCertificate(web)
	if err != nil {
		return err
	}
	bundle, err := sign(web, key, ca, caKey)
	if err != nil {
		return err
	}
	return store(directory, "web", key, bundle.ChainPEM, bundle.CAPEM)
}

func certificate(name string, life time.Duration) *cm.Certificate {
	return &cm.Certificate{
		ObjectMeta: meta.ObjectMeta{Name: name},
		Spec: cm.CertificateSpec{
			CommonName: name,
			Duration:   &meta.Duration{Duration: life},
			PrivateKey: &cm.CertificatePrivateKey{Algorithm: cm.ECDSAKeyAlgorithm, Size: 256},
		},
	}
}

// From a Certificate to a CertificateRequest to a chain, as the controllers go.
func sign(wanted *cm.Certificate, key crypto.Signer, ca *x509.Certificate, caKey crypto.Signer) (pki.PEMBundle, error) {
	csr, err := pki.GenerateCSR(wanted)
	if err != nil {
		return pki.PEMBundle{}, err
	}
	der, err := pki.EncodeCSR(csr, key)
	if err != nil {
		return pki.PEMBundle{}, err
	}
	template, err := pki.CertificateTemplateFromCertificateRequest(&cm.CertificateRequest{
		Spec: cm.CertificateRequestSpec{
			Request:  pemOf(der),
			Duration: wanted.Spec.Duration,
			Usages:   wanted.Spec.Usages,
		},
	})
	if err != nil {
		return pki.PEMBundle{}, err
	}
	return pki.SignCSRTemplate([]*x509.Certificate{ca}, caKey, template)
}

func pemOf(csr []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})
}

func store(directory, name string, key crypto.Signer, chain, ca []byte) error {
	encoded, err := pki.EncodePrivateKey(key, cm.PKCS1)
	if err != nil {
		return err
	}
	secret := core.Secret{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "demo"},
		Type:       core.SecretTypeTLS,
		Data: map[string][]byte{
			core.TLSCertKey:       chain,
			core.TLSPrivateKeyKey: encoded,
			"ca.crt":              ca,
		},
	}
	text, err := json.MarshalIndent(secret, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, name+".json"), text, 0o600)
}
